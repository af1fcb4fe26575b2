# Azure OpenAI accounts with their model deployments. The gateway signs in with Entra ID, so no key of an account is read.

locals {
  deployments = merge([
    for account, instance in var.instances : {
      for deployment in instance.deployments :
      "${account}/${deployment.name}" => merge(deployment, { account = account })
    }
  ]...)
}

resource "azurerm_cognitive_account" "this" {
  # checkov:skip=CKV_AZURE_247:Data loss prevention by a list of allowed hosts concerns the service's own outgoing calls, which the gateway's clients choose.
  # checkov:skip=CKV2_AZURE_22:Keys of the customer are a decision of the customer. Azure encrypts with its own keys.
  # checkov:skip=CKV_AZURE_236:Local authentication is off unless local_auth_enabled says otherwise.
  # checkov:skip=CKV_AZURE_134:Public access is off with network isolation. Without it the accounts are public by intention.
  for_each = var.instances

  name                          = each.value.account_name
  resource_group_name           = var.resource_group_name
  location                      = each.value.location
  kind                          = each.value.kind
  sku_name                      = each.value.sku_name
  custom_subdomain_name         = each.value.account_name
  local_auth_enabled            = var.local_auth_enabled
  public_network_access_enabled = each.value.public_network_access_enabled
  tags                          = var.tags

  network_acls {
    # With public access the account is open to all networks, and Entra ID decides.
    default_action = each.value.public_network_access_enabled ? "Allow" : "Deny"
  }

  identity {
    type = "SystemAssigned"
  }
}

resource "azurerm_cognitive_deployment" "this" {
  for_each = local.deployments

  name                       = each.value.name
  cognitive_account_id       = azurerm_cognitive_account.this[each.value.account].id
  dynamic_throttling_enabled = each.value.dynamic_throttling_enabled
  rai_policy_name            = each.value.rai_policy_name
  version_upgrade_option     = each.value.version_upgrade_option

  model {
    format  = each.value.model.format
    name    = each.value.model.name
    version = each.value.model.version
  }

  sku {
    name     = each.value.scale_type
    capacity = each.value.capacity
  }
}

resource "azurerm_private_endpoint" "this" {
  for_each = var.network_isolation ? var.instances : {}

  name                = "pep-${each.value.account_name}"
  resource_group_name = var.resource_group_name
  # A private endpoint is in the region of its network, whatever the region of the account is.
  location  = var.private_endpoint_location
  subnet_id = var.private_endpoint_subnet_id
  tags      = var.tags

  private_service_connection {
    name                           = each.value.account_name
    private_connection_resource_id = azurerm_cognitive_account.this[each.key].id
    subresource_names              = ["account"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = var.private_dns_zone_ids
  }
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  for_each = var.log_analytics_workspace_id == "" ? {} : var.instances

  name                       = "log-analytics"
  target_resource_id         = azurerm_cognitive_account.this[each.key].id
  log_analytics_workspace_id = var.log_analytics_workspace_id

  # Not RequestResponse and Trace: the gateway has a record of each request already.
  enabled_log {
    category = "Audit"
  }

  enabled_metric {
    category = "AllMetrics"
  }
}
