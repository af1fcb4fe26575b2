mock_provider "azurerm" {
  mock_resource "azurerm_cognitive_account" {
    defaults = {
      id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/oai"
    }
  }
}

variables {
  resource_group_name = "rg"
  instances = {
    ptu = {
      account_name                  = "oai-genai-prod-ptu"
      index                         = 0
      location                      = "swedencentral"
      kind                          = "OpenAI"
      sku_name                      = "S0"
      priority                      = 10
      weight                        = 1
      public_network_access_enabled = true
      deployments                   = [{ name = "gpt-5-mini", model = { name = "gpt-5-mini", version = "2025-08-07" } }]
    }
    backup = {
      account_name                  = "oai-genai-prod-backup"
      index                         = 1
      location                      = "francecentral"
      kind                          = "OpenAI"
      sku_name                      = "S0"
      priority                      = 5
      weight                        = 3
      public_network_access_enabled = true
      deployments                   = []
    }
  }
}

run "backends_arrive_with_all_that_the_gateway_needs" {
  command = apply

  assert {
    condition     = output.backends[*].name == ["ptu", "backup"]
    error_message = "The backends are in the order of their indexes, not in that of their names."
  }
  assert {
    condition = jsonencode(output.backends[0]) == jsonencode({
      index       = 0
      name        = "ptu"
      endpoint    = "https://oai-genai-prod-ptu.openai.azure.com"
      host        = "oai-genai-prod-ptu.openai.azure.com"
      location    = "swedencentral"
      priority    = 10
      weight      = 1
      deployments = ["gpt-5-mini"]
      resource_id = azurerm_cognitive_account.this["ptu"].id
    })
    error_message = "A backend has endpoint, name, region, priority, weight, deployments and resource ID."
  }
}

run "keys_are_off" {
  command = plan

  assert {
    condition     = alltrue([for account in azurerm_cognitive_account.this : account.local_auth_enabled == false])
    error_message = "The accounts accept no keys."
  }
  assert {
    condition     = length(azurerm_private_endpoint.this) == 0 && length(azurerm_monitor_diagnostic_setting.this) == 0
    error_message = "Without isolation and workspace there are no private endpoints and no diagnostic settings."
  }
  assert {
    condition     = azurerm_cognitive_deployment.this["ptu/gpt-5-mini"].model[0].version == "2025-08-07" && azurerm_cognitive_deployment.this["ptu/gpt-5-mini"].sku[0].name == "Standard"
    error_message = "Each deployment of an instance is made."
  }
}

run "network_isolation_makes_private_endpoints_in_the_networks_region" {
  command = plan

  variables {
    network_isolation          = true
    private_endpoint_location  = "westeurope"
    private_endpoint_subnet_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/pe"
    private_dns_zone_ids       = ["/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/privatelink.openai.azure.com"]
    log_analytics_workspace_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log"
  }

  assert {
    condition     = length(azurerm_private_endpoint.this) == 2 && alltrue([for endpoint in azurerm_private_endpoint.this : endpoint.location == "westeurope" && one(endpoint.private_service_connection).subresource_names == tolist(["account"])])
    error_message = "Each account has a private endpoint in the network."
  }
  assert {
    condition     = alltrue([for endpoint in azurerm_private_endpoint.this : length(one(endpoint.private_dns_zone_group).private_dns_zone_ids) == 1])
    error_message = "Each private endpoint is in the DNS zones."
  }
  assert {
    condition     = length(azurerm_monitor_diagnostic_setting.this) == 2
    error_message = "Each account has a diagnostic setting."
  }
}

run "a_closed_account_denies_all_networks" {
  command = plan

  variables {
    instances = {
      closed = {
        account_name                  = "oai-closed"
        index                         = 0
        location                      = "swedencentral"
        kind                          = "AIServices"
        sku_name                      = "S0"
        priority                      = 5
        weight                        = 1
        public_network_access_enabled = false
        deployments                   = []
      }
    }
  }

  assert {
    condition     = azurerm_cognitive_account.this["closed"].public_network_access_enabled == false && azurerm_cognitive_account.this["closed"].network_acls[0].default_action == "Deny"
    error_message = "No public network reaches the account."
  }
}

run "isolation_without_a_subnet_is_refused" {
  command = plan
  variables {
    network_isolation = true
  }
  expect_failures = [var.private_endpoint_subnet_id, var.private_endpoint_location, var.private_dns_zone_ids]
}

run "an_unknown_endpoint_suffix_is_refused" {
  command = plan
  variables {
    endpoint_suffix = "example.com"
  }
  expect_failures = [var.endpoint_suffix]
}

run "a_name_that_is_no_host_name_is_refused" {
  command = plan
  variables {
    instances = { a = { account_name = "Oai_A", index = 0, location = "swedencentral", kind = "OpenAI", sku_name = "S0", priority = 5, weight = 1, public_network_access_enabled = true, deployments = [] } }
  }
  expect_failures = [var.instances]
}

run "a_name_that_the_gateway_cannot_use_is_refused" {
  command = plan
  variables {
    instances = { "a b" = { account_name = "oai-a", index = 0, location = "swedencentral", kind = "OpenAI", sku_name = "S0", priority = 5, weight = 1, public_network_access_enabled = true, deployments = [] } }
  }
  expect_failures = [var.instances]
}

run "an_unknown_kind_is_refused" {
  command = plan
  variables {
    instances = { a = { account_name = "oai-a", index = 0, location = "swedencentral", kind = "ComputerVision", sku_name = "S0", priority = 5, weight = 1, public_network_access_enabled = true, deployments = [] } }
  }
  expect_failures = [var.instances]
}

run "a_negative_priority_is_refused" {
  command = plan
  variables {
    instances = { a = { account_name = "oai-a", index = 0, location = "swedencentral", kind = "OpenAI", sku_name = "S0", priority = -1, weight = 1, public_network_access_enabled = true, deployments = [] } }
  }
  expect_failures = [var.instances]
}

run "a_broken_weight_is_refused" {
  command = plan
  variables {
    instances = { a = { account_name = "oai-a", index = 0, location = "swedencentral", kind = "OpenAI", sku_name = "S0", priority = 5, weight = 0.5, public_network_access_enabled = true, deployments = [] } }
  }
  expect_failures = [var.instances]
}

run "two_deployments_with_one_name_are_refused" {
  command = plan
  variables {
    instances = { a = { account_name = "oai-a", index = 0, location = "swedencentral", kind = "OpenAI", sku_name = "S0", priority = 5, weight = 1, public_network_access_enabled = true, deployments = [{ name = "m", model = { name = "m" } }, { name = "m", model = { name = "m" } }] } }
  }
  expect_failures = [var.instances]
}

run "a_deployment_without_capacity_is_refused" {
  command = plan
  variables {
    instances = { a = { account_name = "oai-a", index = 0, location = "swedencentral", kind = "OpenAI", sku_name = "S0", priority = 5, weight = 1, public_network_access_enabled = true, deployments = [{ name = "m", model = { name = "m" }, capacity = 0 }] } }
  }
  expect_failures = [var.instances]
}
