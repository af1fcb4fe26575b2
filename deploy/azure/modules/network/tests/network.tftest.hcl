mock_provider "azurerm" {
  mock_resource "azurerm_virtual_network" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet" }
  }
  mock_resource "azurerm_subnet" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/snet" }
  }
  mock_resource "azurerm_network_security_group" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/nsg" }
  }
  mock_resource "azurerm_private_dns_zone" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/zone" }
  }
}

variables {
  resource_group_name  = "rg"
  location             = "westeurope"
  virtual_network_name = "vnet-genai"
}

run "a_network_with_subnets_and_zones" {
  command = apply

  assert {
    condition     = one(azurerm_subnet.container_apps[0].delegation).service_delegation[0].name == "Microsoft.App/environments"
    error_message = "The subnet of the environment is delegated to Container Apps."
  }
  assert {
    condition     = toset([for zone in azurerm_private_dns_zone.this : zone.name]) == toset(["privatelink.openai.azure.com", "privatelink.cognitiveservices.azure.com", "privatelink.services.ai.azure.com", "privatelink.vaultcore.azure.net", "privatelink.redis.azure.net"])
    error_message = "There is a private DNS zone for each service."
  }
  assert {
    condition     = alltrue([for link in azurerm_private_dns_zone_virtual_network_link.this : link.virtual_network_id == azurerm_virtual_network.this[0].id]) && length(azurerm_private_dns_zone_virtual_network_link.this) == 5
    error_message = "Each zone is linked to the network."
  }
  assert {
    condition     = azurerm_network_security_rule.clients[0].source_address_prefix == "Internet"
    error_message = "Clients come from the Internet by default."
  }
  assert {
    condition     = anytrue([for rule in azurerm_network_security_group.private_endpoints[0].security_rule : rule.access == "Deny" && rule.source_address_prefix == "*"])
    error_message = "Private endpoints take what the network sends to their ports, and nothing else."
  }
  assert {
    condition     = azurerm_subnet.private_endpoints[0].private_endpoint_network_policies == "NetworkSecurityGroupEnabled"
    error_message = "The rules of the security group apply to private endpoints."
  }
}

run "without_client_ranges_nobody_outside_gets_in" {
  command = plan
  variables {
    client_address_prefixes = []
  }
  assert {
    condition     = length(azurerm_network_security_rule.clients) == 0
    error_message = "There is no rule for clients outside."
  }
}

run "several_client_ranges" {
  command = plan
  variables {
    client_address_prefixes = ["203.0.113.0/24", "198.51.100.0/24"]
  }
  assert {
    condition     = azurerm_network_security_rule.clients[0].source_address_prefixes == toset(["203.0.113.0/24", "198.51.100.0/24"])
    error_message = "Several ranges are one rule."
  }
}

run "an_existing_network_and_zone_are_used" {
  command = apply
  variables {
    existing_virtual_network_id          = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub"
    existing_container_apps_subnet_id    = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/apps"
    existing_private_endpoints_subnet_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/pe"
    existing_private_dns_zone_ids        = { openai = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/privateDnsZones/privatelink.openai.azure.com" }
  }
  assert {
    condition     = length(azurerm_virtual_network.this) == 0 && length(azurerm_subnet.container_apps) == 0 && length(azurerm_private_dns_zone.this) == 4
    error_message = "What exists is not made."
  }
  assert {
    condition     = output.container_apps_subnet_id == var.existing_container_apps_subnet_id && output.private_dns_zone_ids["openai"] == var.existing_private_dns_zone_ids["openai"]
    error_message = "The outputs name what exists."
  }
}

run "half_of_an_existing_network_is_refused" {
  command = plan
  variables {
    existing_virtual_network_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub"
  }
  expect_failures = [var.existing_container_apps_subnet_id, var.existing_private_endpoints_subnet_id]
}

run "something_else_than_a_network_is_refused" {
  command = plan
  variables {
    existing_virtual_network_id          = "hub"
    existing_container_apps_subnet_id    = "apps"
    existing_private_endpoints_subnet_id = "pe"
  }
  expect_failures = [var.existing_virtual_network_id]
}

run "an_unknown_zone_is_refused" {
  command = plan
  variables {
    existing_private_dns_zone_ids = { storage = "x" }
  }
  expect_failures = [var.existing_private_dns_zone_ids]
}

run "missing_zone_names_are_refused" {
  command = plan
  variables {
    private_dns_zone_names = { openai = "privatelink.openai.azure.us" }
  }
  expect_failures = [var.private_dns_zone_names]
}

run "wrong_ranges_are_refused" {
  command = plan
  variables {
    address_space                   = ["ten"]
    container_apps_subnet_prefix    = "10.60.0.0/28"
    private_endpoints_subnet_prefix = "10.60.2.0"
  }
  expect_failures = [var.address_space, var.container_apps_subnet_prefix, var.private_endpoints_subnet_prefix]
}

run "tags_and_ranges_together_are_refused" {
  command = plan
  variables {
    client_address_prefixes = ["Internet", "203.0.113.0/24"]
  }
  expect_failures = [var.client_address_prefixes]
}
