/** Replaces a module that a library does not need here: see build.mjs. */
module.exports = {};
