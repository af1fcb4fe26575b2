mock_provider "azapi" {
  mock_resource "azapi_resource" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Dashboard/dashboards/dash-genai-dev-we" }
  }
}

mock_provider "azurerm" {
  mock_resource "azurerm_log_analytics_workspace" {
    defaults = {
      id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log-genai-dev-we"
    }
  }
  mock_resource "azurerm_monitor_workspace" {
    defaults = {
      id                                  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Monitor/accounts/amw-genai-dev-we"
      query_endpoint                      = "https://amw-genai-dev-we-1a2b.westeurope.prometheus.monitor.azure.com"
      default_data_collection_endpoint_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_amw-genai-dev-we_westeurope_managed/providers/Microsoft.Insights/dataCollectionEndpoints/amw-genai-dev-we"
      default_data_collection_rule_id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_amw-genai-dev-we_westeurope_managed/providers/Microsoft.Insights/dataCollectionRules/amw-genai-dev-we"
    }
  }
  mock_data "azurerm_monitor_workspace" {
    defaults = {
      query_endpoint                      = "https://mine-1a2b.westeurope.prometheus.monitor.azure.com"
      default_data_collection_endpoint_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_mine_westeurope_managed/providers/Microsoft.Insights/dataCollectionEndpoints/mine"
      default_data_collection_rule_id     = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/MA_mine_westeurope_managed/providers/Microsoft.Insights/dataCollectionRules/mine"
    }
  }
  mock_data "azurerm_monitor_data_collection_endpoint" {
    defaults = {
      metrics_ingestion_endpoint = "https://amw-genai-dev-we-1a2b.westeurope-1.metrics.ingest.monitor.azure.com"
    }
  }
  mock_data "azurerm_monitor_data_collection_rule" {
    defaults = {
      immutable_id = "dcr-0123456789abcdef0123456789abcdef"
    }
  }
}

variables {
  resource_group_name          = "rg-genai-dev-we-obs"
  resource_group_id            = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-genai-dev-we-obs"
  location                     = "westeurope"
  log_analytics_workspace_name = "log-genai-dev-we"
  application_insights_name    = "appi-genai-dev-we"
  monitor_workspace_name       = "amw-genai-dev-we"
}

run "endpoints_have_the_form_that_the_gateway_takes" {
  command = apply

  assert {
    condition     = output.prometheus_remote_write_endpoint == "https://amw-genai-dev-we-1a2b.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Microsoft-PrometheusMetrics"
    error_message = "AZURE_MONITOR_WORKSPACE_ENDPOINT has no other form."
  }
  assert {
    condition     = data.azurerm_monitor_data_collection_rule.prometheus.name == "amw-genai-dev-we" && data.azurerm_monitor_data_collection_rule.prometheus.resource_group_name == "MA_amw-genai-dev-we_westeurope_managed"
    error_message = "The rule is the one that came with the workspace."
  }
  assert {
    condition     = azurerm_application_insights.this.workspace_id == azurerm_log_analytics_workspace.this[0].id && output.log_analytics_workspace_name == "log-genai-dev-we"
    error_message = "Application Insights keeps its data in the workspace."
  }
  assert {
    condition     = !azurerm_log_analytics_workspace.this[0].local_authentication_enabled
    error_message = "The workspace's shared keys must open nothing."
  }
  assert {
    condition     = length(azapi_resource.dashboard) == 0 && output.dashboard_id == null
    error_message = "The dashboard is made on request only."
  }
}

run "the_dashboard_is_that_of_the_examples" {
  command = apply

  variables {
    dashboard_name = "dash-genai-dev-we"
    dashboard_json = file("../../../../examples/observability/dashboards/gateway.json")
  }

  assert {
    condition     = length(jsondecode(azapi_resource.dashboard_definition[0].body.properties.serializedData).panels) > 20 && azapi_resource.dashboard_definition[0].name == "default"
    error_message = "The portal shows the definition named default."
  }
  assert {
    condition     = jsondecode(azapi_resource.dashboard_definition[0].body.properties.serializedData).templating.list[0].query == "prometheus"
    error_message = "The viewer must be able to choose the workspace as data source."
  }
}

run "a_dashboard_needs_content" {
  command = plan

  variables {
    dashboard_name = "dash-genai-dev-we"
  }

  expect_failures = [azapi_resource.dashboard]
}

run "workspaces_can_be_brought_along" {
  command = apply

  variables {
    existing_log_analytics_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.OperationalInsights/workspaces/log-mine"
    existing_monitor_workspace_id       = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.Monitor/accounts/mine"
  }

  assert {
    condition     = length(azurerm_log_analytics_workspace.this) == 0 && length(azurerm_monitor_workspace.this) == 0
    error_message = "No workspace is made."
  }
  assert {
    condition     = azurerm_application_insights.this.workspace_id == var.existing_log_analytics_workspace_id && output.log_analytics_workspace_name == "log-mine"
    error_message = "Application Insights keeps its data in the workspace that exists."
  }
  assert {
    condition     = data.azurerm_monitor_workspace.existing[0].name == "mine" && data.azurerm_monitor_data_collection_endpoint.prometheus.name == "mine" && output.monitor_workspace_id == var.existing_monitor_workspace_id
    error_message = "Metrics go to the workspace that exists."
  }
}

run "values_are_validated" {
  command = plan

  variables {
    resource_group_name                 = ""
    resource_group_id                   = "rg"
    location                            = ""
    log_analytics_workspace_name        = "log"
    existing_log_analytics_workspace_id = "log"
    log_retention_days                  = 7
    log_daily_quota_gb                  = 0
    application_insights_name           = "app insights"
    app_insights_daily_cap_gb           = 0
    monitor_workspace_name              = "amw"
    existing_monitor_workspace_id       = "amw"
    dashboard_name                      = "d d"
    dashboard_json                      = "{}"
    tags                                = { for n in range(51) : "t${n}" => "" }
  }

  expect_failures = [
    var.resource_group_name, var.resource_group_id, var.location, var.log_analytics_workspace_name,
    var.existing_log_analytics_workspace_id, var.log_retention_days, var.log_daily_quota_gb, var.application_insights_name,
    var.app_insights_daily_cap_gb, var.monitor_workspace_name, var.existing_monitor_workspace_id, var.dashboard_name,
    var.dashboard_json, var.tags,
  ]
}
