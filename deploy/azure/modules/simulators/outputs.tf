output "urls" {
  description = "URLs of the simulators, by the name of the backend."
  # Made from the domain of the environment, so that a plan knows the URLs before the apps exist.
  value      = { for backend, name in local.names : backend => "https://${name}.${var.external_enabled ? "" : "internal."}${var.default_domain}" }
  depends_on = [azurerm_container_app.this]
}

output "secret_name" {
  description = "Name of the key in the vault. A resource that refers to this output waits until the key was written."
  value       = azurerm_key_vault_secret.key.name
}
