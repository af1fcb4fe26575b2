/** Diagnostics about a gateway that starts or runs. */
import { error, list, warning } from './entry.ts';

export const running = {
  LOCALHOST_IN_CONTAINER: warning((a: { instead: string }, name) => ({
    message: `${name} is a loopback address: in the gateway's container it means the container, not this machine`,
    expected: 'an address that the container can reach',
    hint: `write ${name}=${a.instead} to reach this machine; on Linux the server must listen on more than loopback`,
  })),
  FILE_NOT_FOR_CONTAINER: error((a: { reason: string }, name) => ({
    message: `the file in ${name} cannot be mounted into the gateway's container: ${a.reason}`,
    expected: 'the path of a file on this machine',
    hint: `correct the path in ${name}`,
  })),
  CHANGE_NEEDS_START: error((_, name) => ({
    message:
      'the change is deferred to the next start: it affects settings that APISIX reads only when it starts',
    expected: 'the value that the gateway was started with',
    hint: `restart the gateway to apply ${name}`,
  })),
  CHANGE_NEEDS_PROCESS: error((a: { isGone: boolean; isFollowed: boolean }, name) => ({
    message: a.isGone
      ? 'the removal is deferred to the next start: the APISIX process still has this variable'
      : 'the change is deferred to the next start: the APISIX process reads this variable from its own environment, which a running process keeps',
    expected: 'the value that the gateway was started with',
    hint:
      a.isFollowed && !a.isGone
        ? `restart the gateway, or use ${name}_FILE: changes of a file take effect without a restart`
        : `restart the gateway to apply ${name}`,
  })),
  CHANGE_NEEDS_OTHERS: error((a: { others: readonly string[] }, name) => ({
    message: 'the change is deferred, because it depends on other deferred changes',
    expected: `the changes of ${list(a.others)} to take effect too`,
    hint: `follow the advice for ${a.others.length === 1 ? a.others[0] : 'those settings'}; ${name} takes effect with ${a.others.length === 1 ? 'it' : 'them'}`,
  })),
  CONFIG_OF_OTHER_SETTINGS: error((_, name) => ({
    message: `${name} does not match the settings that the gateway was started with, so no change can take effect until the next start`,
    expected: `the ${name} that APISIX was started with`,
    hint: 'restart the gateway',
  })),
  NOT_RENDERED: error((a: { reason: string }, name) => ({
    message: `${name} cannot be read: ${a.reason}`,
    expected: 'the folder with the files that APISIX was started with',
    hint: 'check the folder given with --out',
  })),
};
