output "gateway_identity_id" {
  description = "Resource ID of the gateway's identity."
  value       = azurerm_user_assigned_identity.this.id
}

output "gateway_identity_principal_id" {
  description = "Object ID of the gateway's identity, for roles on accounts that Terraform does not provision."
  value       = azurerm_user_assigned_identity.this.principal_id
}

output "gateway_app_name" {
  description = "Name of the Container App."
  value       = azurerm_container_app.this.name
}

output "gateway_app_id" {
  description = "Resource ID of the Container App."
  value       = azurerm_container_app.this.id
}

output "gateway_fqdn" {
  description = "Host name of the gateway."
  value       = azurerm_container_app.this.ingress[0].fqdn
}

output "gateway_url" {
  description = "URL of the gateway."
  value       = "https://${azurerm_container_app.this.ingress[0].fqdn}"
}

output "gateway_settings" {
  description = "The settings of the gateway that are not secret, as its containers get them. `genai-gateway check` reads them."
  value       = tomap(local.settings)
}

output "secret_settings" {
  description = "The secret settings that the containers get, with the name of each one's secret in the vault."
  value       = tomap(local.secrets)
}

output "role_assignments" {
  description = "The rights of the gateway's identity."
  value       = local.roles
}
