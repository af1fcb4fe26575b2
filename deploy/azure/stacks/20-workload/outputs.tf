output "gateway_url" {
  description = "URL of the gateway."
  value       = module.gateway.gateway_url
}

output "gateway_fqdn" {
  description = "Host name of the gateway."
  value       = module.gateway.gateway_fqdn
}

output "gateway_app_name" {
  description = "Name of the gateway's Container App."
  value       = module.gateway.gateway_app_name
}

output "gateway_identity_principal_id" {
  description = "Object ID of the gateway's identity, for the role Cognitive Services OpenAI User on accounts that Terraform does not know."
  value       = module.gateway.gateway_identity_principal_id
}

output "gateway_settings" {
  description = "The settings of the gateway that are not secret, as its containers get them. `genai-gateway check` reads them."
  value       = module.gateway.gateway_settings
}

output "secret_names" {
  description = "Names of the vault's secrets that the containers read."
  value       = sort(distinct(values(module.gateway.secret_settings)))
}

output "secret_settings" {
  description = "The secret settings that the containers get, with the name of each one's secret in the vault."
  value       = module.gateway.secret_settings
}

output "secrets_revision" {
  description = "The variable of that name, with which the present revision was made."
  value       = var.secrets_revision
}

output "role_assignments" {
  description = "The rights of the gateway's identity."
  value       = module.gateway.role_assignments
}

output "responses_affinity_cache_fqdn" {
  description = "Host name of the Redis. Null without one."
  value       = one(module.redis[*].host)
}

output "simulator_urls" {
  description = "URLs of the simulators, by the name of the backend. Null without gateway_e2e_test_mode."
  value       = one(module.simulators[*].urls)
}

output "simulator_secret_name" {
  description = "Name of the simulators' key in the vault. Null without them."
  value       = one(module.simulators[*].secret_name)
}

output "simulator_image" {
  description = "The variable of that name."
  value       = var.simulator_image
}

output "acr_login_server" {
  description = "Host name of the container registry."
  value       = local.registry_login_server
}

output "resource_group_name" {
  description = "Resource group of the gateway."
  value       = local.resource_group_name
}

output "aca_environment_name" {
  description = "Name of the Container Apps environment."
  value       = module.environment.name
}

output "log_analytics_workspace_id" {
  description = "Log Analytics workspace of the containers' logs."
  value       = var.log_analytics_workspace_id
}

output "alert_action_group_id" {
  description = "The action group that the alerts notify. Null without alerts."
  value       = module.alerts.action_group_id
}

output "azure_monitor_workspace_id" {
  description = "Azure Monitor workspace of the gateway's metrics."
  value       = var.azure_monitor_workspace_id
}

output "azure_monitor_prometheus_endpoint" {
  description = "Remote write endpoint of the workspace."
  value       = var.azure_monitor_prometheus_endpoint
}

output "azure_monitor_prometheus_query_endpoint" {
  description = "Query endpoint of the workspace."
  value       = var.azure_monitor_prometheus_query_endpoint
}

output "key_vault_name" {
  description = "The vault with the gateway's secrets."
  value       = local.key_vault_name != "" ? local.key_vault_name : basename(local.key_vault_id)
}
