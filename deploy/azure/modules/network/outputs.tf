output "virtual_network_id" {
  description = "Resource ID of the virtual network."
  value       = local.virtual_network_id
}

output "container_apps_subnet_id" {
  description = "Subnet of the Container Apps environment."
  value       = local.container_apps_subnet_id
}

output "private_endpoints_subnet_id" {
  description = "Subnet of the private endpoints."
  value       = local.private_endpoints_subnet_id
}

output "private_dns_zone_ids" {
  description = "Private DNS zones by what they are for."
  value       = merge({ for key, zone in azurerm_private_dns_zone.this : key => zone.id }, var.existing_private_dns_zone_ids)
}
