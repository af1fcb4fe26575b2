/**
 * In place of node:child_process, which commander loads for subcommands that are programs of their own. There are none
 * here, and loading it costs a tenth of a start.
 */
module.exports = {};
