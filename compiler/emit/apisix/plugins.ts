/**
 * The plugins that the gateway uses: config.yaml lists them for loading, and apisix.yaml configures them on the
 * service.
 */
import type { GatewayModel } from '../../model/model.ts';
import type { LimitRules } from './limit-rules.ts';

export type UsedPlugins = ReturnType<typeof usedPlugins>;

/** In the order of the documents. */
export function usedPlugins({ limits, telemetry, ...model }: GatewayModel, rules: LimitRules) {
  const isUsed = (part: unknown): boolean => part !== undefined;
  const tokens = isUsed(rules.tokenRules);
  const rate = isUsed(limits.requestRate);
  const counts = isUsed(rules.countRules);
  const budgets = isUsed(limits.shared) || model.pools.some(({ budget }) => isUsed(budget));
  return {
    'azure-openai-errors': true,
    'request-id': true,
    prometheus: true,
    'azure-openai-metrics': true,
    'azure-openai-auth': true,
    'azure-openai-proxy': true,
    'ai-proxy-multi': true,
    'azure-openai-preferred': isUsed(model.preferred),
    'azure-openai-limits': tokens || rate || counts || budgets,
    'ai-rate-limiting': tokens,
    'limit-req': rate,
    'limit-count': counts,
    cors: isUsed(model.cors),
    'ip-restriction': isUsed(model.ipRestriction),
    'response-rewrite': model.hardenResponses,
    'azure-openai-traces': isUsed(telemetry.traces),
    'file-logger': isUsed(telemetry.accessLogPath),
    'apim-gateway-logger': isUsed(telemetry.apimRecords),
  };
}
