mock_provider "azapi" {}
mock_provider "azurerm" {
  mock_resource "azurerm_container_app_environment" {
    defaults = {
      id                = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.App/managedEnvironments/cae"
      default_domain    = "cae.westeurope.azurecontainerapps.io"
      static_ip_address = "10.60.0.4"
    }
  }
  mock_resource "azurerm_private_dns_zone" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/zone" }
  }
  mock_data "azurerm_container_app_environment" {
    defaults = { default_domain = "mine.westeurope.azurecontainerapps.io" }
  }
}

variables {
  name                = "cae-genai"
  resource_group_name = "rg"
  location            = "westeurope"
}

run "a_public_environment_without_keys" {
  command = plan
  assert {
    condition     = azurerm_container_app_environment.this[0].logs_destination == "azure-monitor" && azurerm_container_app_environment.this[0].log_analytics_workspace_id == null
    error_message = "Logs need no key of a workspace."
  }
  assert {
    condition     = azurerm_container_app_environment.this[0].public_network_access == "Enabled" && length(azapi_update_resource.ingress) == 0 && length(azurerm_private_dns_zone.internal) == 0
    error_message = "The environment is public, with the usual ingress."
  }
  assert {
    condition     = azurerm_container_app_environment.this[0].workload_profile == toset([for profile in azurerm_container_app_environment.this[0].workload_profile : profile if profile.name == "Consumption"])
    error_message = "There are no nodes that cost money all the time."
  }
}

run "logs_go_to_the_workspace" {
  command = plan
  variables {
    log_analytics_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log"
  }
  assert {
    condition     = toset([for log in azurerm_monitor_diagnostic_setting.logs[0].enabled_log : log.category]) == toset(["ContainerAppConsoleLogs", "ContainerAppSystemLogs"])
    error_message = "Logs of the containers and of the platform go to the workspace."
  }
}

run "an_internal_environment_is_in_the_network_and_has_its_zone" {
  command = apply
  variables {
    internal                 = true
    infrastructure_subnet_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/apps"
    virtual_network_id       = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet"
    zone_redundancy_enabled  = true
  }
  assert {
    condition     = azurerm_container_app_environment.this[0].internal_load_balancer_enabled && azurerm_container_app_environment.this[0].public_network_access == "Disabled" && azurerm_container_app_environment.this[0].infrastructure_subnet_id == var.infrastructure_subnet_id
    error_message = "The environment is in the virtual network, and closed to the Internet."
  }
  assert {
    condition     = azurerm_private_dns_zone.internal[0].name == "cae.westeurope.azurecontainerapps.io" && azurerm_private_dns_a_record.internal[0].name == "*" && azurerm_private_dns_a_record.internal[0].records == toset(["10.60.0.4"]) && azurerm_private_dns_zone_virtual_network_link.internal[0].virtual_network_id == var.virtual_network_id
    error_message = "The network resolves the names of the environment."
  }
}

run "a_longer_idle_timeout_needs_the_premium_ingress" {
  command = apply
  variables {
    ingress_idle_timeout_minutes = 15
  }
  assert {
    condition     = azapi_update_resource.ingress[0].body.properties.ingressConfiguration.requestIdleTimeout == 15 && azapi_update_resource.ingress[0].body.properties.ingressConfiguration.workloadProfileName == "ingress"
    error_message = "The ingress ends requests after 15 minutes."
  }
  assert {
    condition     = anytrue([for profile in azurerm_container_app_environment.this[0].workload_profile : profile.name == "ingress" && profile.minimum_count == 2 && profile.workload_profile_type == "D4"])
    error_message = "The premium ingress has two nodes."
  }
}

run "an_existing_environment_is_not_changed" {
  command = apply
  variables {
    existing_environment_id      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/mine/providers/Microsoft.App/managedEnvironments/cae-mine"
    ingress_idle_timeout_minutes = 15
  }
  assert {
    condition     = length(azurerm_container_app_environment.this) == 0 && length(azapi_update_resource.ingress) == 0 && length(azurerm_monitor_diagnostic_setting.logs) == 0
    error_message = "Nothing is made for an existing environment."
  }
  assert {
    condition     = output.id == var.existing_environment_id && output.name == "cae-mine" && output.default_domain == "mine.westeurope.azurecontainerapps.io"
    error_message = "The outputs name the existing environment."
  }
}

run "an_internal_environment_without_a_network_is_refused" {
  command = plan
  variables {
    internal = true
  }
  expect_failures = [var.internal]
}

run "zones_without_a_network_are_refused" {
  command = plan
  variables {
    zone_redundancy_enabled = true
  }
  expect_failures = [var.zone_redundancy_enabled]
}

run "timeouts_that_azure_does_not_have_are_refused" {
  command = plan
  variables {
    ingress_idle_timeout_minutes = 31
  }
  expect_failures = [var.ingress_idle_timeout_minutes]
}

run "wrong_nodes_are_refused" {
  command = plan
  variables {
    ingress_workload_profile_type = "NC24-A100"
    ingress_maximum_nodes         = 1
  }
  expect_failures = [var.ingress_workload_profile_type, var.ingress_maximum_nodes]
}

run "something_else_than_an_environment_is_refused" {
  command = plan
  variables {
    existing_environment_id = "cae-mine"
  }
  expect_failures = [var.existing_environment_id]
}
