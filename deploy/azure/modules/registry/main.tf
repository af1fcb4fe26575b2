locals {
  registry_id  = var.existing_registry_id == null ? azurerm_container_registry.this[0].id : var.existing_registry_id
  login_server = one(concat(azurerm_container_registry.this[*].login_server, data.azurerm_container_registry.existing[*].login_server))
}

data "azurerm_container_registry" "existing" {
  count = var.existing_registry_id == null ? 0 : 1

  name                = split("/", var.existing_registry_id)[8]
  resource_group_name = split("/", var.existing_registry_id)[4]
}

resource "azurerm_container_registry" "this" {
  # checkov:skip=CKV_AZURE_139: Whether the registry is public is a variable; a private one costs Premium and an endpoint.
  # checkov:skip=CKV_AZURE_163: Scans of images are a setting of Defender, which applies to a subscription.
  # checkov:skip=CKV_AZURE_164: Azure has removed content trust.
  # checkov:skip=CKV_AZURE_165: One registry serves one region; replicas cost Premium.
  # checkov:skip=CKV_AZURE_166: Quarantine needs a scanner that releases images.
  # checkov:skip=CKV_AZURE_167: Retention needs Premium.
  # checkov:skip=CKV_AZURE_233: Zone redundancy needs Premium.
  # checkov:skip=CKV_AZURE_237: Dedicated data endpoints need Premium.
  count = var.existing_registry_id == null ? 1 : 0

  name                          = var.name
  resource_group_name           = var.resource_group_name
  location                      = var.location
  tags                          = var.tags
  sku                           = title(lower(var.sku))
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  public_network_access_enabled = var.public_network_access_enabled

  lifecycle {
    precondition {
      condition     = title(lower(var.sku)) == "Premium" || (var.public_network_access_enabled && var.private_endpoint == null)
      error_message = "A registry that is private or has a private endpoint needs the tier Premium. Write acr_sku = \"Premium\"."
    }
  }
}

resource "azurerm_role_assignment" "push" {
  for_each = var.push_principal_ids

  scope                = local.registry_id
  role_definition_name = "AcrPush"
  principal_id         = each.value
}

resource "azurerm_private_endpoint" "this" {
  count = var.private_endpoint == null ? 0 : 1

  name                = var.private_endpoint.name
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
  subnet_id           = var.private_endpoint.subnet_id

  private_service_connection {
    name                           = "registry"
    private_connection_resource_id = local.registry_id
    subresource_names              = ["registry"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "registry"
    private_dns_zone_ids = [var.private_endpoint.private_dns_zone_id]
  }
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  count = var.existing_registry_id == null && var.log_analytics_workspace_id != null ? 1 : 0

  name                       = "to-log-analytics"
  target_resource_id         = local.registry_id
  log_analytics_workspace_id = var.log_analytics_workspace_id

  enabled_log {
    category = "ContainerRegistryRepositoryEvents"
  }

  enabled_log {
    category = "ContainerRegistryLoginEvents"
  }
}
