output "location" {
  description = "The region."
  value       = module.names.location
}

output "platform_resource_group_name" {
  description = "The resource group."
  value       = local.resource_group_name
}

output "platform_acr_name" {
  description = "The registry's name."
  value       = module.registry.acr_name
}

output "platform_acr_login_server" {
  description = "The registry's host, with which the names of images begin."
  value       = module.registry.acr_login_server
}

output "platform_acr_id" {
  description = "The registry."
  value       = module.registry.acr_id
}

output "platform_acr_private_dns_zone_id" {
  description = "The registry's private DNS zone; null without a private endpoint."
  value       = var.acr_private_dns_zone_id
}

output "key_vault_name" {
  description = "The vault's name."
  value       = module.key_vault.key_vault_name
}

output "key_vault_uri" {
  description = "The vault's address."
  value       = module.key_vault.key_vault_uri
}

output "key_vault_id" {
  description = "The vault."
  value       = module.key_vault.key_vault_id
}

output "aca_managed_identity_id" {
  description = "The identity that reads the vault's secrets."
  value       = module.key_vault.aca_managed_identity_id
}

output "aca_managed_identity_client_id" {
  description = "The client id of that identity."
  value       = module.key_vault.aca_managed_identity_client_id
}

output "aca_managed_identity_principal_id" {
  description = "The object id of that identity."
  value       = module.key_vault.aca_managed_identity_principal_id
}
