#!/usr/bin/env bash
# Builds, publishes and signs the container image of a release:
#   image.sh login              logs in to the registry, with the password of REGISTRY_PASSWORD
#   image.sh build PLATFORM FILE   builds for a platform, pushes without a tag, and writes the digest to FILE
#   image.sh publish FILE...    makes one image of those digests, tags it, signs it, and verifies the signature
# IMAGE is where it is pushed to (default: ghcr.io and the repository's name). In GitHub's workflows all else is set.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Default of the image's name: the repository on GitHub, in the registry there.
repository=${GITHUB_REPOSITORY-}
image=${IMAGE:-${repository:+ghcr.io/${repository,,}}}
: "${image:?set IMAGE to where the image is pushed, such as registry.example.com/genai-gateway}"
version=$(node --print 'require("./package.json").version')
source=${GITHUB_SERVER_URL:-https://github.com}/$repository

case ${1-} in
  login)
    : "${REGISTRY_PASSWORD:?set it to a token that may push to $image}"
    docker login "${image%%/*}" --username "${GITHUB_ACTOR:-$USER}" --password-stdin <<<"$REGISTRY_PASSWORD"
    ;;

  build)
    platform=${2:?usage: image.sh build PLATFORM FILE}
    file=${3:?usage: image.sh build PLATFORM FILE}
    mkdir -p "$(dirname "$file")"
    metadata=$(mktemp)
    trap 'rm -f "$metadata"' EXIT
    docker buildx build --file docker/Dockerfile --platform "$platform" \
      --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" --build-arg "SOURCE=$source" \
      --attest type=sbom --attest type=provenance,mode=max \
      --output "type=image,name=$image,push-by-digest=true,name-canonical=true,push=true" \
      --metadata-file "$metadata" .
    jq --exit-status --raw-output '."containerimage.digest"' "$metadata" >"$file"
    echo "$platform is $image@$(<"$file")"
    ;;

  publish)
    shift
    [ $# -gt 0 ] || { echo 'usage: image.sh publish FILE...' >&2; exit 64; }
    parts=()
    for file; do parts+=("$image@$(<"$file")"); done
    # Whoever distributes an image distributes the licences of what is in it.
    docker run --rm --entrypoint cat "${parts[0]}" \
      /opt/genai-gateway/LICENSE /opt/genai-gateway/NODE_LICENSE /opt/genai-gateway/dist/THIRD_PARTY_LICENSES.txt >/dev/null
    tags=(--tag "$image:$version")
    # A version such as 1.2.0-rc.1 is for those who ask for it.
    [[ $version == *-* ]] || tags+=(--tag "$image:${version%.*}" --tag "$image:latest")
    docker buildx imagetools create "${tags[@]}" "${parts[@]}"
    digest=$(docker buildx imagetools inspect --format '{{json .Manifest}}' "$image:$version" | jq --exit-status --raw-output .digest)
    # What both tags and digests lead to: the index, and the image of each platform.
    cosign sign --yes --recursive "$image@$digest"
    cosign verify --certificate-oidc-issuer https://token.actions.githubusercontent.com \
      --certificate-identity "$source/.github/workflows/release.yml@${GITHUB_REF:-refs/tags/v$version}" \
      "$image@$digest" >/dev/null
    echo "$image:$version is $image@$digest, and signed"
    ;;

  *)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
