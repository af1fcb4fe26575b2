output "id" {
  description = "Resource ID of the environment."
  # The container apps wait for the ingress, which Azure restarts when its settings change.
  value      = local.create ? azurerm_container_app_environment.this[0].id : var.existing_environment_id
  depends_on = [azapi_update_resource.ingress]
}

output "name" {
  description = "Name of the environment."
  value       = local.create ? var.name : local.existing[1]
}

output "default_domain" {
  description = "Domain of the environment's apps."
  value       = local.create ? azurerm_container_app_environment.this[0].default_domain : data.azurerm_container_app_environment.existing[0].default_domain
}
