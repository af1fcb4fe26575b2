output "key_vault_id" {
  description = "The vault."
  value       = local.key_vault_id
}

output "key_vault_name" {
  description = "The vault's name."
  value       = split("/", local.key_vault_id)[8]
}

output "key_vault_uri" {
  description = "The vault's address."
  value       = one(concat(azurerm_key_vault.this[*].vault_uri, data.azurerm_key_vault.existing[*].vault_uri))
}

output "aca_managed_identity_id" {
  description = "The identity that reads secrets. It is known after it has its role."
  value       = azurerm_user_assigned_identity.reader.id
  depends_on  = [azurerm_role_assignment.reader]
}

output "aca_managed_identity_client_id" {
  description = "The client id of that identity."
  value       = azurerm_user_assigned_identity.reader.client_id
}

output "aca_managed_identity_principal_id" {
  description = "The object id of that identity."
  value       = azurerm_user_assigned_identity.reader.principal_id
}
