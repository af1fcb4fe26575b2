locals {
  resource_group_name        = var.existing_resource_group_id == null ? azurerm_resource_group.this[0].name : split("/", var.existing_resource_group_id)[4]
  deployment_principal_id    = var.deployment_principal_id == null ? data.azurerm_client_config.current.object_id : var.deployment_principal_id
  log_analytics_workspace_id = var.log_analytics_workspace_id == "" ? null : var.log_analytics_workspace_id
}

data "azurerm_client_config" "current" {}

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

  name     = var.platform_rg_name_override != "" ? var.platform_rg_name_override : "rg-${module.names.suffix}-platform"
  location = module.names.location
  tags     = var.tags
}

module "registry" {
  source = "../../modules/registry"

  resource_group_name           = local.resource_group_name
  location                      = module.names.location
  tags                          = var.tags
  existing_registry_id          = var.existing_acr_id
  name                          = var.acr_name_override != "" ? var.acr_name_override : module.names.registry_name
  sku                           = var.acr_sku
  public_network_access_enabled = var.acr_public_network_access_enabled
  push_principal_ids            = setunion([local.deployment_principal_id], var.acr_push_principal_ids)
  log_analytics_workspace_id    = local.log_analytics_workspace_id
  private_endpoint = var.acr_private_dns_zone_id == null ? null : {
    name                = "pep-${module.names.suffix}-acr"
    subnet_id           = var.private_endpoint_subnet_id
    private_dns_zone_id = var.acr_private_dns_zone_id
  }
}

module "key_vault" {
  source = "../../modules/key-vault"

  resource_group_name           = local.resource_group_name
  location                      = module.names.location
  tags                          = var.tags
  tenant_id                     = var.tenant_id
  existing_key_vault_id         = var.existing_key_vault_id
  name                          = var.key_vault_name_override != "" ? var.key_vault_name_override : module.names.key_vault_name
  identity_name                 = var.key_vault_identity_name_override != "" ? var.key_vault_identity_name_override : "id-${module.names.suffix}-secrets"
  purge_protection_enabled      = var.key_vault_purge_protection_enabled
  soft_delete_retention_days    = var.key_vault_soft_delete_retention_days
  public_network_access_enabled = var.key_vault_public_network_access_enabled
  allowed_ip_ranges             = var.key_vault_allowed_ip_ranges
  allowed_subnet_ids            = var.key_vault_allowed_subnet_ids
  secrets_officer_principal_ids = [local.deployment_principal_id]
  log_analytics_workspace_id    = local.log_analytics_workspace_id
  private_endpoint = var.key_vault_private_dns_zone_id == null ? null : {
    name                = "pep-${module.names.suffix}-kv"
    subnet_id           = var.private_endpoint_subnet_id
    private_dns_zone_id = var.key_vault_private_dns_zone_id
  }
}
