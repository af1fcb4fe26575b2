# The state of this stack itself is a local file, because there is no other place yet. It has no secret but the storage
# account's keys, which are off.
data "azurerm_client_config" "current" {}

module "names" {
  source = "../../modules/names"

  subscription_id  = var.subscription_id
  workload_name    = var.workload_name
  environment_code = var.environment_code
  identifier       = var.identifier
  location         = var.location
}

module "state" {
  source = "../../modules/state"

  existing_resource_group_id  = var.existing_resource_group_id
  resource_group_name         = var.state_rg_name_override != "" ? var.state_rg_name_override : "rg-${module.names.suffix}-state"
  location                    = module.names.location
  storage_account_name        = var.storage_account_name_override != "" ? var.storage_account_name_override : module.names.storage_account_name
  container_name              = var.state_container_name
  sa_replication_type         = var.sa_replication_type
  soft_delete_retention_days  = var.soft_delete_retention_days
  allowed_public_ip_addresses = var.allowed_public_ip_addresses
  state_principal_ids         = setunion([data.azurerm_client_config.current.object_id], var.state_principal_ids)
  tags                        = var.tags
}
