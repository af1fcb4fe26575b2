mock_provider "azapi" {
  mock_resource "azapi_resource" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Dashboard/dashboards/dash" }
  }
}

mock_provider "azurerm" {
  mock_resource "azurerm_resource_group" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-apisix-prod-eus-obs" }
  }
  mock_resource "azurerm_log_analytics_workspace" {
    defaults = {
      id                 = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log-apisix-prod-eus"
      primary_shared_key = "planted-shared-key"
    }
  }
  mock_resource "azurerm_application_insights" {
    defaults = {
      id                = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/components/appi-apisix-prod-eus"
      connection_string = "InstrumentationKey=planted"
    }
  }
  mock_resource "azurerm_monitor_workspace" {
    defaults = {
      id                                  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Monitor/accounts/amw-apisix-prod-eus"
      query_endpoint                      = "https://amw-apisix-prod-eus-1a2b.eastus.prometheus.monitor.azure.com"
      default_data_collection_endpoint_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_amw_eastus_managed/providers/Microsoft.Insights/dataCollectionEndpoints/amw-apisix-prod-eus"
      default_data_collection_rule_id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_amw_eastus_managed/providers/Microsoft.Insights/dataCollectionRules/amw-apisix-prod-eus"
    }
  }
  mock_resource "azurerm_monitor_data_collection_endpoint" {
    defaults = {
      id                      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/dataCollectionEndpoints/dce"
      logs_ingestion_endpoint = "https://dce-apisix-prod-eus-1a2b.eastus-1.ingest.monitor.azure.com"
    }
  }
  mock_resource "azurerm_monitor_data_collection_rule" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Insights/dataCollectionRules/dcr"
      immutable_id = "dcr-0123456789abcdef0123456789abcdef"
    }
  }
  mock_data "azurerm_monitor_data_collection_endpoint" {
    defaults = { metrics_ingestion_endpoint = "https://amw-apisix-prod-eus-1a2b.eastus-1.metrics.ingest.monitor.azure.com" }
  }
  mock_data "azurerm_monitor_data_collection_rule" {
    defaults = { immutable_id = "dcr-fedcba9876543210fedcba9876543210" }
  }
  mock_data "azurerm_monitor_workspace" {
    defaults = {
      default_data_collection_endpoint_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_mine_eastus_managed/providers/Microsoft.Insights/dataCollectionEndpoints/mine"
      default_data_collection_rule_id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_mine_eastus_managed/providers/Microsoft.Insights/dataCollectionRules/mine"
    }
  }
}

# The accelerator's example for prod.
variables {
  subscription_id               = "00000000-0000-0000-0000-000000000000"
  tenant_id                     = "11111111-1111-1111-1111-111111111111"
  environment_code              = "prod"
  location                      = "eastus"
  workload_name                 = "apisix"
  identifier                    = ""
  log_retention_days            = 30
  app_insights_daily_cap_gb     = 10
  public_network_access_enabled = false
  enable_dashboard              = false
  tags                          = { owner = "platform-team", environment = "prod", cost_center = "shared-services" }
}

run "the_accelerator_example_is_taken" {
  command = apply

  assert {
    condition     = output.observability_rg_name == "rg-apisix-prod-eus-obs" && output.log_analytics_workspace_name == "log-apisix-prod-eus" && output.location == "eastus"
    error_message = "Names follow the pattern."
  }
  assert {
    condition     = output.gateway_logs_ingest_uri == "https://dce-apisix-prod-eus-1a2b.eastus-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-APISIXGatewayLogs?api-version=2023-01-01"
    error_message = "The gateway's records have an address."
  }
  assert {
    condition     = output.gateway_logs_stream_name == "Custom-APISIXGatewayLogs" && output.gateway_logs_table_name == "APISIXGatewayLogs_CL" && endswith(output.gateway_logs_dcr_id, "/dcr") && endswith(output.gateway_logs_dce_id, "/dce")
    error_message = "The names are the accelerator's."
  }
  assert {
    condition     = output.azure_monitor_prometheus_remote_write_endpoint == "https://amw-apisix-prod-eus-1a2b.eastus-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-fedcba9876543210fedcba9876543210/streams/Microsoft-PrometheusMetrics"
    error_message = "Metrics have an address."
  }
  assert {
    condition     = output.app_insights_connection_string == "InstrumentationKey=planted" && output.dashboard_id == null
    error_message = "Application Insights is made, the dashboard is not."
  }
}

run "records_can_be_left_out" {
  command = apply

  variables {
    enable_gateway_log_ingestion = false
    enable_dashboard             = true
  }

  assert {
    condition     = output.gateway_logs_ingest_uri == null && output.gateway_logs_dcr_id == null && output.gateway_logs_dce_id == null && output.gateway_logs_stream_name == null && output.gateway_logs_table_name == null
    error_message = "Without records there is no address for them."
  }
  assert {
    condition     = output.dashboard_id != null
    error_message = "The dashboard is made on request."
  }
}

run "what_exists_can_be_brought_along" {
  command = apply

  variables {
    existing_resource_group_id          = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine"
    existing_log_analytics_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.OperationalInsights/workspaces/log-mine"
    existing_azure_monitor_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.Monitor/accounts/mine"
  }

  assert {
    condition     = length(azurerm_resource_group.this) == 0 && output.observability_rg_name == "rg-mine" && output.log_analytics_workspace_name == "log-mine" && endswith(output.azure_monitor_workspace_id, "/mine")
    error_message = "What exists is used."
  }
}

run "values_are_validated" {
  command = plan

  variables {
    subscription_id            = "mine"
    tenant_id                  = "mine"
    existing_resource_group_id = "rg-mine"
  }

  expect_failures = [var.subscription_id, var.tenant_id, var.existing_resource_group_id]
}
