mock_provider "azurerm" {
  mock_resource "azurerm_cognitive_account" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/oai" }
  }
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
  subscription_id  = "00000000-0000-0000-0000-000000000000"
  tenant_id        = "11111111-1111-1111-1111-111111111111"
  environment_code = "dev"
  location         = "eastus"
  # The instances of the accelerator's example.
  azure_openai_instances = [
    {
      name_suffix = "primary"
      location    = "eastus"
      priority    = 10
      weight      = 2
      deployments = [
        { name = "gpt-5-mini", model = { name = "gpt-5-mini", version = "2025-08-07" }, scale_type = "DataZoneStandard", capacity = 150 },
        { name = "text-embedding-3-small", model = { name = "text-embedding-3-small", version = "1" }, scale_type = "Standard", capacity = 150 },
      ]
    },
    {
      name_suffix = "secondary"
      location    = "East US 2"
    },
  ]
  remote_state_resource_group_name  = "rg-terraform-state"
  remote_state_storage_account_name = "stterraformstate123"
  remote_state_container_name       = "tfstate"
  foundation_state_blob_key         = "dev/10-platform.tfstate"
}

run "network_isolation_makes_the_whole_network" {
  command = apply

  assert {
    condition     = output.virtual_network_id != "" && output.container_apps_subnet_id != "" && output.private_endpoints_subnet_id != "" && output.container_apps_subnet_prefix == "10.60.0.0/23" && length(output.private_dns_zone_ids) == 5
    error_message = "By default there is a network with subnets and zones."
  }
  assert {
    condition     = output.azure_openai_count == 2 && output.azure_openai_endpoints[*].name == ["primary", "secondary"] && output.azure_openai_endpoints[1].location == "eastus2" && output.azure_openai_endpoints[1].priority == 5 && output.azure_openai_endpoints[1].weight == 1
    error_message = "The accounts are in the order of the variable, with defaults."
  }
  assert {
    condition     = can(regex("^https://oai-apisix-dev-eus-primary-[0-9a-f]{5}\\.openai\\.azure\\.com$", output.azure_openai_endpoints[0].endpoint))
    error_message = "Host names are unique in all of Azure, and speak of workload and environment."
  }
  assert {
    condition     = output.azure_openai_key_vault_secret_names == [] && nonsensitive(output.azure_openai_primary_keys) == []
    error_message = "No key is read."
  }
}

run "without_isolation_there_is_no_network" {
  command = apply
  variables {
    azure_openai_network_isolation = false
  }
  assert {
    condition     = output.virtual_network_id == "" && output.container_apps_subnet_id == "" && length(output.private_dns_zone_ids) == 0 && output.azure_openai_count == 2
    error_message = "There are accounts and no network."
  }
}

run "a_network_without_accounts" {
  command = apply
  variables {
    azure_openai_instances = []
  }
  assert {
    condition     = output.azure_openai_count == 0 && output.virtual_network_id != ""
    error_message = "The network is there for backends of your own too."
  }
}

run "names_can_be_given" {
  command = apply
  variables {
    azure_openai_custom_subdomain_prefix = "contoso"
    existing_resource_group_id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine"
    azure_openai_instances               = [{ name_suffix = "a" }, { name_suffix = "b", account_name = "contoso-openai" }]
  }
  assert {
    condition     = startswith(output.azure_openai_endpoints[0].host, "contoso-a-") && output.azure_openai_endpoints[1].host == "contoso-openai.openai.azure.com" && output.resource_group_name == "rg-mine" && length(azurerm_resource_group.foundry) == 0
    error_message = "Names and group are those that were given."
  }
}

run "two_instances_with_one_name_are_refused" {
  command = plan
  variables {
    azure_openai_instances = [{ name_suffix = "a" }, { name_suffix = "a" }]
  }
  expect_failures = [var.azure_openai_instances]
}

run "a_wrong_name_is_refused" {
  command = plan
  variables {
    azure_openai_instances = [{ name_suffix = "Primary_1" }]
  }
  expect_failures = [var.azure_openai_instances]
}

run "a_wrong_prefix_is_refused" {
  command = plan
  variables {
    azure_openai_custom_subdomain_prefix = "Contoso."
  }
  expect_failures = [var.azure_openai_custom_subdomain_prefix]
}

run "ids_that_are_none_are_refused" {
  command = plan
  variables {
    subscription_id            = "my-subscription"
    tenant_id                  = "contoso.onmicrosoft.com"
    existing_resource_group_id = "rg-mine"
    log_analytics_workspace_id = "log"
  }
  expect_failures = [var.subscription_id, var.tenant_id, var.existing_resource_group_id, var.log_analytics_workspace_id]
}
