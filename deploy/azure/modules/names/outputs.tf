output "location" {
  description = "The region in the form of Azure's API, for example westeurope."
  value       = local.location
}

output "location_short" {
  description = "The region's short code."
  value       = local.location_short
}

output "suffix" {
  description = "What follows the abbreviation of a resource type in a name, for example genai-dev-we."
  value       = local.suffix
}

output "storage_account_name" {
  description = "A name for a storage account: 24 lower-case letters and digits at most, unique in all of Azure."
  value       = "st${substr(local.compact, 0, 17)}${local.unique}"
}

output "registry_name" {
  description = "A name for a container registry: letters and digits, unique in all of Azure."
  value       = "acr${substr(local.compact, 0, 40)}${local.unique}"
}

output "key_vault_name" {
  description = "A name for a Key Vault: 24 characters at most, unique in all of Azure."
  value       = "kv-${trimsuffix(substr(local.suffix, 0, 15), "-")}-${local.unique}"
}

output "unique" {
  description = "Five characters that depend on the subscription and the names, for other names that must be unique in all of Azure."
  value       = local.unique
}
