output "backend_snippet" {
  description = "Content of backend.hcl for the other stacks. Replace the stack in the key by the name of each."
  value       = <<-EOT
    use_azuread_auth     = true
    tenant_id            = "${var.tenant_id}"
    storage_account_name = "${module.state.storage_account_name}"
    container_name       = "${module.state.state_container_name}"
    key                  = "${var.environment_code}/<stack>.tfstate"
  EOT
}

output "location" {
  description = "The region."
  value       = module.names.location
}

output "state_rg_name" {
  description = "The resource group of the state."
  value       = module.state.state_rg_name
}

output "storage_account_name" {
  description = "The storage account of the state."
  value       = module.state.storage_account_name
}

output "state_container_name" {
  description = "The blob container of the state."
  value       = module.state.state_container_name
}

output "state_blob_key" {
  description = "The key under which this stack's own state can be kept, for who moves it there."
  value       = "${var.environment_code}/00-bootstrap.tfstate"
}
