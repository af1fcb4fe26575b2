output "azure_openai_endpoints" {
  description = "The accounts in the order of their indexes: all that 20-workload needs to make backends of them."
  value       = module.foundry.backends
}

output "azure_openai_resource_ids" {
  description = "Resource IDs of the accounts, in the same order."
  value       = module.foundry.backends[*].resource_id
}

output "azure_openai_count" {
  description = "Number of accounts."
  value       = length(module.foundry.backends)
}

output "azure_openai_key_vault_secret_names" {
  description = "Always empty: the gateway signs in to these accounts with Entra ID. The accelerator listed secrets with keys here."
  value       = []
}

output "azure_openai_primary_keys" {
  description = "Always empty: no key of an account is read. The accelerator returned the keys here."
  value       = []
  sensitive   = true
}

output "resource_group_name" {
  description = "Resource group of the accounts and the network."
  value       = local.resource_group_name
}

output "virtual_network_id" {
  description = "Virtual network of the gateway. Empty without network isolation."
  value       = var.azure_openai_network_isolation ? module.network[0].virtual_network_id : ""
}

output "container_apps_subnet_id" {
  description = "Subnet of the Container Apps environment. Empty without network isolation."
  value       = var.azure_openai_network_isolation ? module.network[0].container_apps_subnet_id : ""
}

output "container_apps_subnet_prefix" {
  description = "Address range of that subnet. Empty without network isolation, and for an existing network."
  value       = var.azure_openai_network_isolation && var.existing_virtual_network_id == "" ? var.container_apps_subnet_prefix : ""
}

output "private_endpoints_subnet_id" {
  description = "Subnet of the private endpoints. Empty without network isolation."
  value       = var.azure_openai_network_isolation ? module.network[0].private_endpoints_subnet_id : ""
}

output "private_dns_zone_ids" {
  description = "Private DNS zones by what they are for. Empty without network isolation."
  value       = var.azure_openai_network_isolation ? module.network[0].private_dns_zone_ids : {}
}
