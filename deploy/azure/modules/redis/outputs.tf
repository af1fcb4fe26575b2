output "host" {
  description = "Host name of the Redis. The container has the name of its app, which the environment resolves."
  value       = local.managed ? azapi_resource.cluster[0].output.host : azurerm_container_app.this[0].name
}

output "port" {
  description = "Port of the Redis."
  value       = local.managed ? 10000 : 6379
}

output "tls" {
  description = "Whether the Redis speaks TLS. Between apps of one environment it does not."
  value       = local.managed
}

output "secret_name" {
  description = "Name of the password in the vault. A resource that refers to this output waits until the password was written."
  value       = local.managed ? module.key[0].name : azurerm_key_vault_secret.container[0].name
}
