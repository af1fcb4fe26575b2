/** The stock image that the gateway runs on. `docker/Dockerfile` names the same image with its digest. */
export const APISIX_VERSION = '3.18.0';
export const APISIX_IMAGE = `apache/apisix:${APISIX_VERSION}-debian`;
