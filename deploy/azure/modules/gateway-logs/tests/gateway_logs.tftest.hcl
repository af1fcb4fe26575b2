mock_provider "azurerm" {
  mock_resource "azurerm_monitor_data_collection_endpoint" {
    defaults = {
      id                      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/dataCollectionEndpoints/dce"
      logs_ingestion_endpoint = "https://dce-genai-1a2b.westeurope-1.ingest.monitor.azure.com"
    }
  }
  mock_resource "azurerm_monitor_data_collection_rule" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/dataCollectionRules/dcr"
      immutable_id = "dcr-0123456789abcdef0123456789abcdef"
    }
  }
}

variables {
  resource_group_name        = "rg-genai-dev-we-obs"
  location                   = "westeurope"
  log_analytics_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log"
  dce_name                   = "dce-genai-dev-we"
  dcr_name                   = "dcr-genai-dev-we"
}

run "records_flow_into_the_table" {
  command = apply

  assert {
    condition     = azurerm_log_analytics_workspace_table_custom_log.this.name == "APISIXGatewayLogs_CL" && azurerm_monitor_data_collection_rule.this.data_flow[0].output_stream == "Custom-APISIXGatewayLogs_CL"
    error_message = "The rule must end in the table."
  }
  assert {
    condition     = azurerm_monitor_data_collection_rule.this.data_flow[0].streams[0] == "Custom-APISIXGatewayLogs" && one(azurerm_monitor_data_collection_rule.this.stream_declaration).stream_name == "Custom-APISIXGatewayLogs"
    error_message = "The rule must declare the stream of the gateway's default settings."
  }
  assert {
    condition     = toset([for each in azurerm_log_analytics_workspace_table_custom_log.this.column : each.name]) == toset([for each in one(azurerm_monitor_data_collection_rule.this.stream_declaration).column : each.name])
    error_message = "Azure ignores what only one of the table and the stream has."
  }
  assert {
    condition     = { for each in azurerm_log_analytics_workspace_table_custom_log.this.column : each.name => each.type }["TimeGenerated"] == "dateTime"
    error_message = "Log Analytics requires the time of a record."
  }
  assert {
    condition     = output.ingest_uri == "https://dce-genai-1a2b.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-APISIXGatewayLogs?api-version=2023-01-01"
    error_message = "The gateway takes the URI in this form."
  }
}

run "values_are_validated" {
  command = plan

  variables {
    resource_group_name        = ""
    location                   = ""
    log_analytics_workspace_id = "log"
    dce_name                   = "-"
    dcr_name                   = "-"
    table_name                 = "Logs"
    stream_name                = "Logs"
    retention_days             = 3
    tags                       = { for n in range(51) : "t${n}" => "" }
  }

  expect_failures = [
    var.resource_group_name, var.location, var.log_analytics_workspace_id, var.dce_name, var.dcr_name, var.table_name,
    var.stream_name, var.retention_days, var.tags,
  ]
}
