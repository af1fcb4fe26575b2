mock_provider "azurerm" {
  mock_resource "azurerm_key_vault" {
    defaults = {
      id        = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-genai"
      vault_uri = "https://kv-genai.vault.azure.net/"
    }
  }
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-genai-secrets"
      principal_id = "bbbbbbbb-0000-0000-0000-000000000001"
    }
  }
  mock_data "azurerm_key_vault" {
    defaults = {
      rbac_authorization_enabled = true
      vault_uri                  = "https://mine.vault.azure.net/"
    }
  }
}

variables {
  resource_group_name           = "rg"
  location                      = "westeurope"
  tenant_id                     = "11111111-1111-1111-1111-111111111111"
  name                          = "kv-genai"
  identity_name                 = "id-genai-secrets"
  secrets_officer_principal_ids = ["aaaaaaaa-0000-0000-0000-000000000001"]
}

run "the_vault_knows_roles_only" {
  command = apply

  assert {
    condition     = azurerm_key_vault.this[0].rbac_authorization_enabled && azurerm_key_vault.this[0].purge_protection_enabled && azurerm_key_vault.this[0].soft_delete_retention_days == 90
    error_message = "Access is by role, and what is deleted is restorable."
  }
  assert {
    condition     = azurerm_role_assignment.reader.role_definition_name == "Key Vault Secrets User" && azurerm_role_assignment.reader.scope == azurerm_key_vault.this[0].id && azurerm_role_assignment.reader.principal_id == "bbbbbbbb-0000-0000-0000-000000000001"
    error_message = "The identity reads the secrets of this vault, and can do nothing else."
  }
  assert {
    condition = alltrue([
      for each in azurerm_role_assignment.officer :
      each.role_definition_name == "Key Vault Secrets Officer" && each.scope == azurerm_key_vault.this[0].id
    ])
    error_message = "Who puts secrets into the vault has the role on this vault."
  }
  assert {
    condition     = azurerm_key_vault.this[0].network_acls[0].default_action == "Allow" && length(azurerm_private_endpoint.this) == 0
    error_message = "Without addresses and subnets the network is open."
  }
}

run "addresses_and_subnets_close_the_network" {
  command = plan

  variables {
    allowed_ip_ranges  = ["203.0.113.4"]
    allowed_subnet_ids = ["/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/apps"]
  }

  assert {
    condition     = azurerm_key_vault.this[0].network_acls[0].default_action == "Deny" && contains(azurerm_key_vault.this[0].network_acls[0].ip_rules, "203.0.113.4")
    error_message = "Others are refused."
  }
}

run "a_private_vault_has_an_endpoint_and_an_audit_log" {
  command = plan

  variables {
    public_network_access_enabled = false
    log_analytics_workspace_id    = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/log"
    private_endpoint = {
      name                = "pep-kv"
      subnet_id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/endpoints"
      private_dns_zone_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net"
    }
  }

  assert {
    condition     = !azurerm_key_vault.this[0].public_network_access_enabled && azurerm_private_endpoint.this[0].private_service_connection[0].subresource_names[0] == "vault"
    error_message = "The vault is reached through its endpoint only."
  }
  assert {
    condition     = one(azurerm_monitor_diagnostic_setting.this[0].enabled_log).category == "AuditEvent"
    error_message = "Access to the vault is logged."
  }
}

run "a_vault_can_be_brought_along" {
  command = apply

  variables {
    existing_key_vault_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.KeyVault/vaults/mine"
  }

  assert {
    condition     = length(azurerm_key_vault.this) == 0 && azurerm_role_assignment.reader.scope == var.existing_key_vault_id && output.key_vault_uri == "https://mine.vault.azure.net/" && output.key_vault_name == "mine"
    error_message = "The identity gets its role on the vault that exists."
  }
}

run "a_vault_with_access_policies_is_refused" {
  command = plan

  variables {
    existing_key_vault_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine/providers/Microsoft.KeyVault/vaults/mine"
  }

  override_data {
    target = data.azurerm_key_vault.existing[0]
    values = { rbac_authorization_enabled = false }
  }

  expect_failures = [data.azurerm_key_vault.existing]
}

run "values_are_validated" {
  command = plan

  variables {
    resource_group_name           = ""
    location                      = ""
    tenant_id                     = "mine"
    existing_key_vault_id         = "mine"
    name                          = "kv--genai"
    identity_name                 = "-"
    soft_delete_retention_days    = 6
    allowed_ip_ranges             = ["here"]
    allowed_subnet_ids            = ["apps"]
    secrets_officer_principal_ids = ["me"]
    log_analytics_workspace_id    = "log"
    private_endpoint              = { name = "pep", subnet_id = "endpoints", private_dns_zone_id = "vault" }
    tags                          = { for n in range(51) : "t${n}" => "" }
  }

  expect_failures = [
    var.resource_group_name, var.location, var.tenant_id, var.existing_key_vault_id, var.name, var.identity_name,
    var.soft_delete_retention_days, var.allowed_ip_ranges, var.allowed_subnet_ids, var.secrets_officer_principal_ids,
    var.log_analytics_workspace_id, var.private_endpoint, var.tags,
  ]
}
