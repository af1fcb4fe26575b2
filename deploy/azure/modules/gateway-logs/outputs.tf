output "dce_id" {
  description = "The data collection endpoint."
  value       = azurerm_monitor_data_collection_endpoint.this.id
}

output "dcr_id" {
  description = "The data collection rule. The gateway's identity needs Monitoring Metrics Publisher on it, and nothing else."
  value       = azurerm_monitor_data_collection_rule.this.id
}

output "dcr_immutable_id" {
  description = "The rule's immutable id, dcr-…"
  value       = azurerm_monitor_data_collection_rule.this.immutable_id
}

output "ingest_uri" {
  description = "The value of APIM_GATEWAY_LOGS_INGEST_URI."
  value       = "${azurerm_monitor_data_collection_endpoint.this.logs_ingestion_endpoint}/dataCollectionRules/${azurerm_monitor_data_collection_rule.this.immutable_id}/streams/${var.stream_name}?api-version=2023-01-01"
}

output "stream_name" {
  description = "The stream to which the gateway sends."
  value       = var.stream_name
}

output "custom_table_name" {
  description = "The table of the records."
  value       = azurerm_log_analytics_workspace_table_custom_log.this.name
}
