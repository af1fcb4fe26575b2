output "log_analytics_workspace_id" {
  description = "The Log Analytics workspace."
  value       = local.log_analytics_workspace_id
}

output "log_analytics_workspace_name" {
  description = "The name of the Log Analytics workspace."
  value       = split("/", local.log_analytics_workspace_id)[8]
}

output "app_insights_id" {
  description = "Application Insights."
  value       = azurerm_application_insights.this.id
}

output "app_insights_connection_string" {
  description = "The connection string of Application Insights, for the collector."
  value       = azurerm_application_insights.this.connection_string
  sensitive   = true
}

output "app_insights_instrumentation_key" {
  description = "The instrumentation key of Application Insights. The gateway does not need it."
  value       = azurerm_application_insights.this.instrumentation_key
  sensitive   = true
}

output "monitor_workspace_id" {
  description = "The Azure Monitor workspace."
  value       = var.existing_monitor_workspace_id == null ? azurerm_monitor_workspace.this[0].id : var.existing_monitor_workspace_id
}

output "prometheus_query_endpoint" {
  description = "Where the workspace answers queries in PromQL."
  value       = one(concat(azurerm_monitor_workspace.this[*].query_endpoint, data.azurerm_monitor_workspace.existing[*].query_endpoint))
}

output "prometheus_remote_write_endpoint" {
  description = "The value of AZURE_MONITOR_WORKSPACE_ENDPOINT."
  value       = "${data.azurerm_monitor_data_collection_endpoint.prometheus.metrics_ingestion_endpoint}/dataCollectionRules/${data.azurerm_monitor_data_collection_rule.prometheus.immutable_id}/streams/Microsoft-PrometheusMetrics"
}

output "prometheus_dcr_id" {
  description = "The workspace's default data collection rule. The gateway's identity needs Monitoring Metrics Publisher on it, and nothing else."
  value       = data.azurerm_monitor_data_collection_rule.prometheus.id
}

output "dashboard_id" {
  description = "The dashboard in the portal; null without one."
  value       = one(azapi_resource.dashboard[*].id)
}
