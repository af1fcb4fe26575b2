#!/usr/bin/env -S node --
/**
 * Starts the bundle with code that V8 compiled in an earlier run, which saves a third of the start time.
 * The build writes this file so that Node since version 6 can parse it, and inserts SUPPORTED_NODE and BUNDLE_DIGEST.
 */

// Check the version first: on an older Node the bundle would fail with an unrelated message.
const [major, minor] = process.versions.node.split('.').map(Number);
const isSupported = SUPPORTED_NODE.lines.some(
  (line) => (major === line.major && minor >= line.minor) || (line.orLater && major > line.major),
);
if (!isSupported) {
  process.stderr.write(
    `genai-gateway needs Node.js ${SUPPORTED_NODE.words}; this is ${process.versions.node} (${process.execPath}). Install a supported version, or use the container image, which includes one.\n`,
  );
  // EX_UNAVAILABLE of sysexits.h, because the exit codes of commands do not apply here.
  process.exit(69);
}

const fs = require('node:fs');
const { dirname, isAbsolute, join } = require('node:path');
const { Script } = require('node:vm');

const filename = join(__dirname, 'bundle.cjs');
/** Created by the build in checkouts and in the image, for the Node that ran the build. The npm package has none. */
const builtCacheFile = join(__dirname, 'bundle.cache');

/** Commands whose run compiles most of the code that a start needs. */
const COMPILING_COMMANDS = ['render', 'check', 'preview', 'diff'];

/** The cache folder of this user; undefined if the environment names none, or if NODE_DISABLE_COMPILE_CACHE is set. */
function cachesOfUser() {
  const { env, platform } = process;
  const absolute = (path) => (path && isAbsolute(path) ? path : undefined);
  if (env.NODE_DISABLE_COMPILE_CACHE) return undefined;
  if (platform === 'win32') return absolute(env.LOCALAPPDATA);
  if (absolute(env.XDG_CACHE_HOME)) return env.XDG_CACHE_HOME;
  if (!absolute(env.HOME)) return undefined;
  return join(env.HOME, platform === 'darwin' ? 'Library/Caches' : '.cache');
}

/**
 * V8 distinguishes bundles only by length, so the name contains a digest of the bundle. It also contains the version of
 * Node, because V8 rejects the cache of another version, and two versions would replace each other's cache.
 */
const nameOfCache = `${BUNDLE_DIGEST}-${process.version}-${process.arch}.cache`;
const caches = cachesOfUser();
const userCache = caches && join(caches, 'genai-gateway', nameOfCache);

const isOfThisUser = (stats) => process.platform === 'win32' || stats.uid === process.geteuid();

function readUserCache() {
  let descriptor;
  try {
    descriptor = fs.openSync(userCache, 'r');
    const stats = fs.fstatSync(descriptor);
    // Anyone who can write the code cache controls the code that runs, so owner and mode are checked.
    const isSafe = stats.isFile() && isOfThisUser(stats) && (stats.mode & 0o022) === 0;
    return isSafe ? fs.readFileSync(descriptor) : undefined;
  } catch {
    return undefined;
  } finally {
    if (descriptor !== undefined) fs.closeSync(descriptor);
  }
}

function readBuiltCache() {
  try {
    return fs.readFileSync(builtCacheFile);
  } catch {
    return undefined;
  }
}

const CACHE_LIFETIME_MS = 30 * 24 * 60 * 60 * 1000;

/** Writes the cache atomically, readable only by this user. Errors are ignored: the next start is only slower. */
function writeUserCache() {
  try {
    // Do not create files in another user's home (sudo keeps HOME) or without a home.
    if (!isOfThisUser(fs.statSync(fs.existsSync(caches) ? caches : dirname(caches)))) return;
    const folder = dirname(userCache);
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const temporary = `${userCache}.${process.pid}`;
    fs.writeFileSync(temporary, script.createCachedData(), { flag: 'wx', mode: 0o600 });
    fs.renameSync(temporary, userCache);
    for (const name of fs.readdirSync(folder)) {
      const path = join(folder, name);
      if (Date.now() - fs.statSync(path).mtimeMs > CACHE_LIFETIME_MS) fs.unlinkSync(path);
    }
  } catch {
    // The home may be read-only, or the disk full. The cache is optional.
  }
}

const builtCache = readBuiltCache();
const isBuilding = process.env.GENAI_GATEWAY_BUILD === 'code-cache';
const mayUseUserCache = userCache && builtCache === undefined && !isBuilding;

// The bundle is ASCII, which is decoded faster as latin1. V8 rejects the cache of another version of itself.
const script = new Script(fs.readFileSync(filename, 'latin1'), {
  filename,
  cachedData: mayUseUserCache ? readUserCache() : builtCache,
});

if (isBuilding) {
  // The build sets this for a run that executes the same code as a render.
  process.on('exit', () => fs.writeFileSync(builtCacheFile, script.createCachedData()));
} else if (
  mayUseUserCache &&
  script.cachedDataRejected !== false &&
  COMPILING_COMMANDS.includes(process.argv[2])
) {
  process.on('exit', (code) => {
    if (code === 0) writeUserCache();
  });
}

const bundle = { exports: {} };
script.runInThisContext().call(bundle.exports, bundle.exports, require, bundle, filename, dirname(filename));
