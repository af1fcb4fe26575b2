mock_provider "azurerm" {
  mock_resource "azurerm_container_registry" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/acrgenai"
      login_server = "acrgenai.azurecr.io"
    }
  }
  mock_data "azurerm_container_registry" {
    defaults = { login_server = "acrmine.azurecr.io" }
  }
}

variables {
  resource_group_name = "rg"
  location            = "westeurope"
  name                = "acrgenai"
  push_principal_ids  = ["aaaaaaaa-0000-0000-0000-000000000001"]
}

run "the_registry_has_no_admin_user" {
  command = apply

  assert {
    condition     = !azurerm_container_registry.this[0].admin_enabled && !azurerm_container_registry.this[0].anonymous_pull_enabled
    error_message = "Images are pushed and pulled by identities only."
  }
  assert {
    condition = alltrue([
      for each in azurerm_role_assignment.push :
      each.role_definition_name == "AcrPush" && each.scope == azurerm_container_registry.this[0].id
    ]) && length(azurerm_role_assignment.push) == 1
    error_message = "The only role is AcrPush, on this registry."
  }
  assert {
    condition     = length(azurerm_monitor_diagnostic_setting.this) == 0 && length(azurerm_private_endpoint.this) == 0
    error_message = "Nothing that costs is made unasked."
  }
}

run "a_registry_can_be_brought_along" {
  command = apply

  variables {
    existing_registry_id       = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.ContainerRegistry/registries/acrmine"
    log_analytics_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log"
  }

  assert {
    condition     = length(azurerm_container_registry.this) == 0 && output.acr_name == "acrmine" && output.acr_login_server == "acrmine.azurecr.io" && output.resource_group_name == "rg-mine"
    error_message = "The registry that exists is used."
  }
  assert {
    condition     = length(azurerm_monitor_diagnostic_setting.this) == 0
    error_message = "A registry that exists keeps its own diagnostic settings."
  }
}

run "a_private_registry_has_an_endpoint_and_logs" {
  command = plan

  variables {
    sku                           = "premium"
    public_network_access_enabled = false
    log_analytics_workspace_id    = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log"
    private_endpoint = {
      name                = "pep-acr"
      subnet_id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/endpoints"
      private_dns_zone_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/privatelink.azurecr.io"
    }
  }

  assert {
    condition     = !azurerm_container_registry.this[0].public_network_access_enabled && azurerm_private_endpoint.this[0].private_service_connection[0].subresource_names[0] == "registry"
    error_message = "The registry is reached through its endpoint only."
  }
  assert {
    condition     = toset([for each in azurerm_monitor_diagnostic_setting.this[0].enabled_log : each.category]) == toset(["ContainerRegistryRepositoryEvents", "ContainerRegistryLoginEvents"])
    error_message = "Logins and events are logged."
  }
}

run "a_private_registry_needs_premium" {
  command = plan

  variables {
    public_network_access_enabled = false
  }

  expect_failures = [azurerm_container_registry.this]
}

run "values_are_validated" {
  command = plan

  variables {
    resource_group_name        = ""
    location                   = ""
    existing_registry_id       = "mine"
    name                       = "acr-genai"
    sku                        = "Free"
    push_principal_ids         = ["me"]
    log_analytics_workspace_id = "log"
    private_endpoint           = { name = "pep", subnet_id = "endpoints", private_dns_zone_id = "privatelink.azurecr.io" }
    tags                       = { for n in range(51) : "t${n}" => "" }
  }

  expect_failures = [
    var.resource_group_name, var.location, var.existing_registry_id, var.name, var.sku, var.push_principal_ids,
    var.log_analytics_workspace_id, var.private_endpoint, var.tags,
  ]
}
