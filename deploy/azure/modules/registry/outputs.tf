output "acr_id" {
  description = "The registry."
  value       = local.registry_id
}

output "acr_name" {
  description = "The registry's name."
  value       = split("/", local.registry_id)[8]
}

output "acr_login_server" {
  description = "The registry's host, with which the names of images begin."
  value       = local.login_server
}

output "resource_group_name" {
  description = "The registry's resource group."
  value       = split("/", local.registry_id)[4]
}
