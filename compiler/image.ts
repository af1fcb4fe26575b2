/** The stock image that the gateway runs on; `docker/Dockerfile` names the same one with its digest. */
export const APISIX_IMAGE = 'apache/apisix:3.18.0-debian';
