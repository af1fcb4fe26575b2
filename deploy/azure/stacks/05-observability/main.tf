locals {
  resource_group_id   = var.existing_resource_group_id == null ? azurerm_resource_group.this[0].id : var.existing_resource_group_id
  resource_group_name = var.existing_resource_group_id == null ? azurerm_resource_group.this[0].name : split("/", var.existing_resource_group_id)[4]
}

module "names" {
  source = "../../modules/names"

  subscription_id  = var.subscription_id
  workload_name    = var.workload_name
  environment_code = var.environment_code
  identifier       = var.identifier
  location         = var.location
}

resource "azurerm_resource_group" "this" {
  count = var.existing_resource_group_id == null ? 1 : 0

  name     = var.observability_rg_name_override != "" ? var.observability_rg_name_override : "rg-${module.names.suffix}-obs"
  location = module.names.location
  tags     = var.tags
}

module "observability" {
  source = "../../modules/observability"

  resource_group_name                 = local.resource_group_name
  resource_group_id                   = local.resource_group_id
  location                            = module.names.location
  tags                                = var.tags
  existing_log_analytics_workspace_id = var.existing_log_analytics_workspace_id
  log_analytics_workspace_name        = var.log_analytics_workspace_name_override != "" ? var.log_analytics_workspace_name_override : "log-${module.names.suffix}"
  log_retention_days                  = var.log_retention_days
  log_daily_quota_gb                  = var.log_daily_quota_gb
  log_local_authentication_enabled    = var.log_local_authentication_enabled
  application_insights_name           = var.app_insights_name_override != "" ? var.app_insights_name_override : "appi-${module.names.suffix}"
  app_insights_daily_cap_gb           = var.app_insights_daily_cap_gb
  existing_monitor_workspace_id       = var.existing_azure_monitor_workspace_id
  monitor_workspace_name              = var.azure_monitor_workspace_name_override != "" ? var.azure_monitor_workspace_name_override : "amw-${module.names.suffix}"
  public_network_access_enabled       = var.public_network_access_enabled
  dashboard_name                      = !var.enable_dashboard ? null : var.dashboard_name_override != "" ? var.dashboard_name_override : "dash-${module.names.suffix}"
  dashboard_json                      = file("${path.module}/../../../../examples/observability/dashboards/gateway.json")
}

module "gateway_logs" {
  source = "../../modules/gateway-logs"
  count  = var.enable_gateway_log_ingestion ? 1 : 0

  resource_group_name        = local.resource_group_name
  location                   = module.names.location
  tags                       = var.tags
  log_analytics_workspace_id = module.observability.log_analytics_workspace_id
  dce_name                   = var.gateway_logs_dce_name_override != "" ? var.gateway_logs_dce_name_override : "dce-${module.names.suffix}"
  dcr_name                   = var.gateway_logs_dcr_name_override != "" ? var.gateway_logs_dcr_name_override : "dcr-${module.names.suffix}"
}
