output "urls" {
  description = "URLs of the simulators, by the name of the backend."
  # From the environment's domain, so that a plan knows them as soon as there is an environment.
  value      = { for backend, name in local.names : backend => "https://${name}.${var.external_enabled ? "" : "internal."}${var.default_domain}" }
  depends_on = [azurerm_container_app.this]
}

output "secret_name" {
  description = "Name of the key in the vault. A resource that refers to this output waits until the key was written."
  value       = azurerm_key_vault_secret.key.name
}
