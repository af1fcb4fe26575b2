output "location" {
  description = "The region."
  value       = module.names.location
}

output "observability_rg_name" {
  description = "The resource group."
  value       = local.resource_group_name
}

output "log_analytics_workspace_id" {
  description = "The Log Analytics workspace."
  value       = module.observability.log_analytics_workspace_id
}

output "log_analytics_workspace_name" {
  description = "The name of the Log Analytics workspace."
  value       = module.observability.log_analytics_workspace_name
}

output "app_insights_id" {
  description = "Application Insights."
  value       = module.observability.app_insights_id
}

output "app_insights_connection_string" {
  description = "The connection string of Application Insights."
  value       = module.observability.app_insights_connection_string
  sensitive   = true
}

output "app_insights_instrumentation_key" {
  description = "The instrumentation key of Application Insights. The gateway does not need it."
  value       = module.observability.app_insights_instrumentation_key
  sensitive   = true
}

output "azure_monitor_workspace_id" {
  description = "The Azure Monitor workspace."
  value       = module.observability.monitor_workspace_id
}

output "azure_monitor_prometheus_remote_write_endpoint" {
  description = "The value of AZURE_MONITOR_WORKSPACE_ENDPOINT."
  value       = module.observability.prometheus_remote_write_endpoint
}

output "azure_monitor_prometheus_query_endpoint" {
  description = "Where the workspace answers queries in PromQL."
  value       = module.observability.prometheus_query_endpoint
}

output "azure_monitor_prometheus_dcr_id" {
  description = "The rule on which the gateway's identity needs Monitoring Metrics Publisher to write metrics."
  value       = module.observability.prometheus_dcr_id
}

output "gateway_logs_dce_id" {
  description = "The endpoint of the gateway's records; null without them."
  value       = one(module.gateway_logs[*].dce_id)
}

output "gateway_logs_dcr_id" {
  description = "The rule on which the gateway's identity needs Monitoring Metrics Publisher to send records; null without them."
  value       = one(module.gateway_logs[*].dcr_id)
}

output "gateway_logs_ingest_uri" {
  description = "The value of APIM_GATEWAY_LOGS_INGEST_URI; null without records."
  value       = one(module.gateway_logs[*].ingest_uri)
}

output "gateway_logs_stream_name" {
  description = "The stream of the gateway's records; null without them."
  value       = one(module.gateway_logs[*].stream_name)
}

output "gateway_logs_table_name" {
  description = "The table of the gateway's records; null without them."
  value       = one(module.gateway_logs[*].custom_table_name)
}

output "dashboard_id" {
  description = "The dashboard in the portal; null without one."
  value       = module.observability.dashboard_id
}
