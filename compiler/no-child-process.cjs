/** What commander gets in place of node:child_process: see build.mjs. */
module.exports = {};
