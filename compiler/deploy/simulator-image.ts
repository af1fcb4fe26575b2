/** The image of the simulators, which the test mode has as its backends: microsoft/aoai-api-simulator. */
import { createHash } from 'node:crypto';
import type { ImageSource } from './image.ts';

export const SIMULATOR_REPOSITORY = 'aoai-api-simulator';

const VERSION = '0.5';
/** The commit of that version: a tag can move. */
const COMMIT = 'b4b6f2c26e3f44e45e79dc072ec045ca8debd27a';

/**
 * The repository's own Dockerfile has a stage that copies a folder which is in no checkout, so builders that build every stage,
 * such as that of the registry, fail. The encoding is in the image, so that no simulator loads it at its start. The name of its
 * file is the one that tiktoken looks for.
 */
const DOCKERFILE = `FROM python:3.12.1-slim-bullseye
WORKDIR /app
ADD https://github.com/microsoft/aoai-api-simulator/archive/${COMMIT}.tar.gz /tmp/source.tar.gz
RUN tar --extract --gzip --file /tmp/source.tar.gz --strip-components 3 --directory /app aoai-api-simulator-${COMMIT}/src/aoai-api-simulator \\
  && rm /tmp/source.tar.gz \\
  && pip install --no-cache-dir --requirement requirements.txt \\
  && pip install --no-cache-dir .
ADD https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken /app/tiktoken_cache/9b5ad71b2ce5302211f9c61530b329a4922fc6a4
RUN chmod --recursive a+rX /app
ENV TIKTOKEN_CACHE_DIR=/app/tiktoken_cache
USER nobody
CMD ["gunicorn", "aoai_api_simulator.main:app", "--worker-class", "uvicorn.workers.UvicornWorker", "--bind", "0.0.0.0:8000"]
`;

const TAG_LENGTH = 12;

/** What the image is made of. The builder loads the sources. */
export function simulatorSource(): ImageSource {
  const digest = createHash('sha256').update(DOCKERFILE).digest('hex').slice(0, TAG_LENGTH);
  return {
    files: new Map([['Dockerfile', Buffer.from(DOCKERFILE)]]),
    image: `${SIMULATOR_REPOSITORY}:${VERSION}-${digest}`,
  };
}
