locals {
  log_analytics_workspace_id = var.existing_log_analytics_workspace_id == null ? azurerm_log_analytics_workspace.this[0].id : var.existing_log_analytics_workspace_id

  # An Azure Monitor workspace comes with an endpoint and a rule, in a group that Azure manages.
  default_endpoint = split("/", one(concat(
    azurerm_monitor_workspace.this[*].default_data_collection_endpoint_id,
    data.azurerm_monitor_workspace.existing[*].default_data_collection_endpoint_id,
  )))
  default_rule = split("/", one(concat(
    azurerm_monitor_workspace.this[*].default_data_collection_rule_id,
    data.azurerm_monitor_workspace.existing[*].default_data_collection_rule_id,
  )))
}

# The provider exports the workspace's shared keys. They open nothing unless log_local_authentication_enabled is true.
resource "azurerm_log_analytics_workspace" "this" {
  count = var.existing_log_analytics_workspace_id == null ? 1 : 0

  name                         = var.log_analytics_workspace_name
  resource_group_name          = var.resource_group_name
  location                     = var.location
  tags                         = var.tags
  sku                          = "PerGB2018"
  retention_in_days            = var.log_retention_days
  daily_quota_gb               = var.log_daily_quota_gb
  local_authentication_enabled = var.log_local_authentication_enabled
}

# The collector's exporter authenticates with the connection string alone, so that local authentication stays on, and the
# string is a secret that this resource exports.
resource "azurerm_application_insights" "this" {
  name                                 = var.application_insights_name
  resource_group_name                  = var.resource_group_name
  location                             = var.location
  tags                                 = var.tags
  application_type                     = "web"
  workspace_id                         = local.log_analytics_workspace_id
  daily_data_cap_in_gb                 = var.app_insights_daily_cap_gb
  daily_data_cap_notifications_enabled = true
  local_authentication_enabled         = true
}

resource "azurerm_monitor_workspace" "this" {
  count = var.existing_monitor_workspace_id == null ? 1 : 0

  name                          = var.monitor_workspace_name
  resource_group_name           = var.resource_group_name
  location                      = var.location
  tags                          = var.tags
  public_network_access_enabled = var.public_network_access_enabled
}

data "azurerm_monitor_workspace" "existing" {
  count = var.existing_monitor_workspace_id == null ? 0 : 1

  name                = split("/", var.existing_monitor_workspace_id)[8]
  resource_group_name = split("/", var.existing_monitor_workspace_id)[4]
}

data "azurerm_monitor_data_collection_endpoint" "prometheus" {
  name                = local.default_endpoint[8]
  resource_group_name = local.default_endpoint[4]
}

data "azurerm_monitor_data_collection_rule" "prometheus" {
  name                = local.default_rule[8]
  resource_group_name = local.default_rule[4]
}

# "Azure Monitor dashboards with Grafana": they are part of the portal and cost nothing, and each viewer queries with his
# own rights. Azure Managed Grafana costs money when idle, and its dashboards are no resources of Azure.
resource "azapi_resource" "dashboard" {
  count = var.dashboard_name == null ? 0 : 1

  type      = "Microsoft.Dashboard/dashboards@2025-09-01-preview"
  parent_id = var.resource_group_id
  name      = var.dashboard_name
  location  = var.location
  tags      = merge(var.tags, { GrafanaDashboardTags = join(",", try(jsondecode(var.dashboard_json).tags, [])) })
  body      = { properties = {} }

  lifecycle {
    precondition {
      condition     = var.dashboard_json != null
      error_message = "A dashboard has a name but no content. Set dashboard_json, or leave dashboard_name out."
    }
  }
}

resource "azapi_resource" "dashboard_definition" {
  count = var.dashboard_name == null ? 0 : 1

  type      = "Microsoft.Dashboard/dashboards/dashboardDefinitions@2025-09-01-preview"
  parent_id = azapi_resource.dashboard[0].id
  name      = "default"
  body      = { properties = { serializedData = var.dashboard_json } }
}
