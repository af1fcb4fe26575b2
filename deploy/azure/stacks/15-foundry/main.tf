# Azure OpenAI accounts, and the private network from which the gateway reaches them. With network isolation this stack
# also makes the network that 20-workload runs in, even if it has no accounts.

module "names" {
  source = "../../modules/names"

  subscription_id  = var.subscription_id
  workload_name    = var.workload_name
  environment_code = var.environment_code
  identifier       = var.identifier
  location         = var.location
}

locals {
  tags = merge({
    workload    = var.workload_name
    environment = var.environment_code
    managed_by  = "terraform"
  }, var.tags)

  resource_group_name = var.existing_resource_group_id == null ? azurerm_resource_group.foundry[0].name : split("/", var.existing_resource_group_id)[4]
  account_prefix      = var.azure_openai_custom_subdomain_prefix != "" ? var.azure_openai_custom_subdomain_prefix : "oai-${module.names.suffix}"

  instances = {
    for index, instance in var.azure_openai_instances : instance.name_suffix => merge(instance, {
      index    = index
      location = lower(replace(coalesce(instance.location, var.location), " ", ""))
      # The name is the host name of the account, which is unique in all of Azure.
      account_name                  = coalesce(instance.account_name, "${local.account_prefix}-${instance.name_suffix}-${module.names.unique}")
      public_network_access_enabled = coalesce(instance.public_network_access_enabled, !var.azure_openai_network_isolation)
    })
  }
}

resource "azurerm_resource_group" "foundry" {
  count = var.existing_resource_group_id == null ? 1 : 0

  name     = var.foundry_rg_name_override != "" ? var.foundry_rg_name_override : "rg-${module.names.suffix}-foundry"
  location = module.names.location
  tags     = local.tags
}

module "network" {
  source = "../../modules/network"
  count  = var.azure_openai_network_isolation ? 1 : 0

  resource_group_name                  = local.resource_group_name
  location                             = module.names.location
  virtual_network_name                 = var.virtual_network_name_override != "" ? var.virtual_network_name_override : "vnet-${module.names.suffix}"
  address_space                        = var.virtual_network_address_space
  container_apps_subnet_prefix         = var.container_apps_subnet_prefix
  private_endpoints_subnet_prefix      = var.private_endpoints_subnet_prefix
  client_address_prefixes              = var.client_address_prefixes
  private_dns_zone_names               = var.private_dns_zone_names
  existing_virtual_network_id          = var.existing_virtual_network_id
  existing_container_apps_subnet_id    = var.existing_container_apps_subnet_id
  existing_private_endpoints_subnet_id = var.existing_private_endpoints_subnet_id
  existing_private_dns_zone_ids        = var.existing_private_dns_zone_ids
  tags                                 = local.tags
}

module "foundry" {
  source = "../../modules/foundry"

  resource_group_name        = local.resource_group_name
  instances                  = local.instances
  local_auth_enabled         = !var.azure_openai_disable_local_auth
  network_isolation          = var.azure_openai_network_isolation
  private_endpoint_subnet_id = var.azure_openai_network_isolation ? module.network[0].private_endpoints_subnet_id : ""
  private_endpoint_location  = module.names.location
  private_dns_zone_ids       = var.azure_openai_network_isolation ? [for key in ["openai", "cognitive_services", "ai_services"] : module.network[0].private_dns_zone_ids[key]] : []
  endpoint_suffix            = var.azure_openai_endpoint_suffix
  log_analytics_workspace_id = var.log_analytics_workspace_id
  tags                       = local.tags
}
