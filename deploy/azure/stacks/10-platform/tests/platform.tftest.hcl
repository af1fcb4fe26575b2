mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = { object_id = "aaaaaaaa-0000-0000-0000-000000000001" }
  }
  mock_resource "azurerm_container_registry" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/acrapisix"
      login_server = "acrapisix.azurecr.io"
    }
  }
  mock_resource "azurerm_key_vault" {
    defaults = {
      id        = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-apisix"
      vault_uri = "https://kv-apisix.vault.azure.net/"
    }
  }
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id"
      principal_id = "bbbbbbbb-0000-0000-0000-000000000001"
      client_id    = "cccccccc-0000-0000-0000-000000000001"
    }
  }
  mock_data "azurerm_key_vault" {
    defaults = { rbac_authorization_enabled = true }
  }
}

# The accelerator's example for test.
variables {
  subscription_id                    = "00000000-0000-0000-0000-000000000000"
  tenant_id                          = "11111111-1111-1111-1111-111111111111"
  environment_code                   = "test"
  location                           = "eastus"
  workload_name                      = "apisix"
  identifier                         = ""
  key_vault_purge_protection_enabled = false
  platform_rg_name_override          = ""
  acr_name_override                  = ""
  key_vault_name_override            = ""
  deployment_principal_id            = null
  log_analytics_workspace_id         = ""
  tags                               = { owner = "platform-team", environment = "test", cost_center = "shared-services" }
}

run "the_accelerator_example_is_taken" {
  command = apply

  assert {
    condition     = output.platform_resource_group_name == "rg-apisix-test-eus-platform" && output.platform_acr_name == "acrapisix" && output.platform_acr_login_server == "acrapisix.azurecr.io" && output.platform_acr_private_dns_zone_id == null
    error_message = "Names follow the pattern."
  }
  assert {
    condition     = output.key_vault_name == "kv-apisix" && output.key_vault_uri == "https://kv-apisix.vault.azure.net/" && endswith(output.key_vault_id, "/kv-apisix") && output.aca_managed_identity_client_id == "cccccccc-0000-0000-0000-000000000001" && output.aca_managed_identity_principal_id == "bbbbbbbb-0000-0000-0000-000000000001" && endswith(output.aca_managed_identity_id, "/id")
    error_message = "The next stack finds the vault and its identity."
  }
}

run "private_endpoints_need_zone_and_subnet" {
  command = plan

  variables {
    private_endpoint_subnet_id    = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/endpoints"
    key_vault_private_dns_zone_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net"
    acr_private_dns_zone_id       = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/privatelink.azurecr.io"
    acr_sku                       = "Premium"
  }

  assert {
    condition     = output.platform_acr_private_dns_zone_id == var.acr_private_dns_zone_id
    error_message = "The registry's zone is an output."
  }
}

run "what_exists_can_be_brought_along" {
  command = apply

  variables {
    existing_resource_group_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine"
    existing_acr_id            = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.ContainerRegistry/registries/acrmine"
    existing_key_vault_id      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.KeyVault/vaults/kv-mine"
  }

  assert {
    condition     = length(azurerm_resource_group.this) == 0 && output.platform_resource_group_name == "rg-mine" && output.platform_acr_name == "acrmine" && output.key_vault_name == "kv-mine"
    error_message = "What exists is used."
  }
}

run "values_are_validated" {
  command = plan

  variables {
    subscription_id                      = "mine"
    tenant_id                            = "mine"
    existing_resource_group_id           = "rg-mine"
    acr_admin_enabled                    = true
    enable_key_vault_public_ip_allowlist = true
    deployment_principal_id              = "me"
    key_vault_private_dns_zone_id        = "zone"
    acr_private_dns_zone_id              = "zone"
  }

  expect_failures = [
    var.subscription_id, var.tenant_id, var.existing_resource_group_id, var.acr_admin_enabled,
    var.enable_key_vault_public_ip_allowlist, var.deployment_principal_id, var.key_vault_private_dns_zone_id, var.acr_private_dns_zone_id,
  ]
}

run "the_subnet_is_validated" {
  command = plan

  variables {
    private_endpoint_subnet_id = "endpoints"
  }

  expect_failures = [var.private_endpoint_subnet_id]
}
