output "name" {
  description = "Name of the secret. A resource that refers to this output waits until the secret was written."
  value       = azurerm_key_vault_secret.this.name
}
