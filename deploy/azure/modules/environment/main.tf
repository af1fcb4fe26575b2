# The Container Apps environment, or an existing one.

locals {
  create   = var.existing_environment_id == ""
  existing = local.create ? [] : regex("^/subscriptions/[^/]+/resourceGroups/([^/]+)/providers/Microsoft\\.App/managedEnvironments/([^/]+)$", var.existing_environment_id)

  # An idle timeout of more than four minutes needs an ingress on nodes of its own.
  premium_ingress = local.create && var.ingress_idle_timeout_minutes > 4
  # An internal environment has a name that only its virtual network resolves, through a zone of its own.
  internal_zone = local.create && var.internal
}

data "azurerm_container_app_environment" "existing" {
  count = local.create ? 0 : 1

  name                = local.existing[1]
  resource_group_name = local.existing[0]
}

resource "azurerm_container_app_environment" "this" {
  count = local.create ? 1 : 0

  name                           = var.name
  resource_group_name            = var.resource_group_name
  location                       = var.location
  infrastructure_subnet_id       = var.infrastructure_subnet_id == "" ? null : var.infrastructure_subnet_id
  internal_load_balancer_enabled = var.infrastructure_subnet_id == "" ? null : var.internal
  public_network_access          = var.internal ? "Disabled" : "Enabled"
  zone_redundancy_enabled        = var.infrastructure_subnet_id == "" ? null : var.zone_redundancy_enabled
  # The other destination, log-analytics, needs a key of the workspace.
  logs_destination = "azure-monitor"
  tags             = var.tags

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  dynamic "workload_profile" {
    for_each = local.premium_ingress ? [var.ingress_workload_profile_type] : []

    content {
      name                  = "ingress"
      workload_profile_type = workload_profile.value
      # Azure requires two nodes for the ingress.
      minimum_count = 2
      maximum_count = var.ingress_maximum_nodes
    }
  }
}

resource "azapi_update_resource" "ingress" {
  count = local.premium_ingress ? 1 : 0

  type        = "Microsoft.App/managedEnvironments@2025-07-01"
  resource_id = azurerm_container_app_environment.this[0].id

  body = {
    properties = {
      ingressConfiguration = {
        workloadProfileName           = "ingress"
        requestIdleTimeout            = var.ingress_idle_timeout_minutes
        terminationGracePeriodSeconds = 480
      }
    }
  }
}

resource "azurerm_monitor_diagnostic_setting" "logs" {
  count = local.create && var.log_analytics_workspace_id != "" ? 1 : 0

  name                           = "log-analytics"
  target_resource_id             = azurerm_container_app_environment.this[0].id
  log_analytics_workspace_id     = var.log_analytics_workspace_id
  log_analytics_destination_type = "Dedicated"

  enabled_log {
    category = "ContainerAppConsoleLogs"
  }

  enabled_log {
    category = "ContainerAppSystemLogs"
  }
}

resource "azurerm_private_dns_zone" "internal" {
  count = local.internal_zone ? 1 : 0

  name                = azurerm_container_app_environment.this[0].default_domain
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_private_dns_a_record" "internal" {
  count = local.internal_zone ? 1 : 0

  name                = "*"
  private_dns_zone_id = azurerm_private_dns_zone.internal[0].id
  ttl                 = 300
  records             = [azurerm_container_app_environment.this[0].static_ip_address]
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "internal" {
  count = local.internal_zone ? 1 : 0

  name                 = "link-container-apps"
  private_dns_zone_id  = azurerm_private_dns_zone.internal[0].id
  virtual_network_id   = var.virtual_network_id
  registration_enabled = false
  tags                 = var.tags
}
