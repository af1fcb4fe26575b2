output "state_rg_name" {
  description = "The resource group of the state."
  value       = local.resource_group_name
}

output "storage_account_name" {
  description = "The storage account of the state."
  value       = azurerm_storage_account.this.name
}

output "storage_account_id" {
  description = "The resource id of the storage account."
  value       = azurerm_storage_account.this.id
}

output "state_container_name" {
  description = "The blob container of the state."
  value       = azurerm_storage_container.this.name
}
