locals {
  key_vault_id = var.existing_key_vault_id == null ? azurerm_key_vault.this[0].id : var.existing_key_vault_id
  restricted   = length(var.allowed_ip_ranges) + length(var.allowed_subnet_ids) > 0
}

data "azurerm_key_vault" "existing" {
  count = var.existing_key_vault_id == null ? 0 : 1

  name                = split("/", var.existing_key_vault_id)[8]
  resource_group_name = split("/", var.existing_key_vault_id)[4]

  lifecycle {
    postcondition {
      condition     = self.rbac_authorization_enabled
      error_message = "The vault of existing_key_vault_id uses access policies. Turn on Azure RBAC for it: the gateway's identity gets a role."
    }
  }
}

# tflint-ignore: azurerm_resources_missing_prevent_destroy # Soft delete and purge protection keep it; removing everything has to work.
resource "azurerm_key_vault" "this" {
  # checkov:skip=CKV_AZURE_42: Purge protection is a variable that is on by default; soft delete is always on.
  # checkov:skip=CKV_AZURE_109: The network is open unless allowed_ip_ranges or allowed_subnet_ids is set, because Container Apps outside a network have no address of their own. Every access needs a role.
  # checkov:skip=CKV_AZURE_110: Purge protection is a variable that is on by default.
  # checkov:skip=CKV_AZURE_189: Whether the vault is public is a variable; a private one needs an endpoint.
  # checkov:skip=CKV2_AZURE_32: The private endpoint is a variable, because it needs a network.
  count = var.existing_key_vault_id == null ? 1 : 0

  name                          = var.name
  resource_group_name           = var.resource_group_name
  location                      = var.location
  tags                          = var.tags
  tenant_id                     = var.tenant_id
  sku_name                      = "standard"
  rbac_authorization_enabled    = true
  purge_protection_enabled      = var.purge_protection_enabled
  soft_delete_retention_days    = var.soft_delete_retention_days
  public_network_access_enabled = var.public_network_access_enabled

  network_acls {
    default_action             = local.restricted ? "Deny" : "Allow"
    bypass                     = "AzureServices"
    ip_rules                   = var.allowed_ip_ranges
    virtual_network_subnet_ids = var.allowed_subnet_ids
  }
}

# Container Apps read the secrets that the gateway's settings name with this identity.
resource "azurerm_user_assigned_identity" "reader" {
  name                = var.identity_name
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_role_assignment" "reader" {
  scope                            = local.key_vault_id
  role_definition_name             = "Key Vault Secrets User"
  principal_id                     = azurerm_user_assigned_identity.reader.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "officer" {
  for_each = var.secrets_officer_principal_ids

  scope                = local.key_vault_id
  role_definition_name = "Key Vault Secrets Officer"
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
    name                           = "vault"
    private_connection_resource_id = local.key_vault_id
    subresource_names              = ["vault"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "vault"
    private_dns_zone_ids = [var.private_endpoint.private_dns_zone_id]
  }
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  count = var.existing_key_vault_id == null && var.log_analytics_workspace_id != null ? 1 : 0

  name                       = "to-log-analytics"
  target_resource_id         = local.key_vault_id
  log_analytics_workspace_id = var.log_analytics_workspace_id

  enabled_log {
    category = "AuditEvent"
  }
}
