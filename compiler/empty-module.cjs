/** What a library gets in place of a module that it does not need here: see build.mjs. */
module.exports = {};
