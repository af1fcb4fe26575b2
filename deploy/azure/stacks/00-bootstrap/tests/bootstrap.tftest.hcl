mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = { object_id = "aaaaaaaa-0000-0000-0000-000000000001" }
  }
  mock_resource "azurerm_storage_account" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/st" }
  }
  mock_resource "azurerm_storage_container" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/st/blobServices/default/containers/tfstate" }
  }
}

# The accelerator's example for prod.
variables {
  subscription_id            = "00000000-0000-0000-0000-000000000000"
  tenant_id                  = "11111111-1111-1111-1111-111111111111"
  environment_code           = "prod"
  location                   = "eastus"
  workload_name              = "apisix"
  identifier                 = ""
  sa_replication_type        = "GZRS"
  soft_delete_retention_days = 90
  state_rg_name_override     = ""
  tags                       = { owner = "platform-team", environment = "prod" }
}

run "the_accelerator_example_is_taken" {
  command = apply

  assert {
    condition     = output.state_rg_name == "rg-apisix-prod-eus-state" && can(regex("^stapisixprodeus[0-9a-f]{5}$", output.storage_account_name)) && output.state_container_name == "tfstate" && output.location == "eastus"
    error_message = "Names follow the pattern."
  }
  assert {
    condition     = strcontains(output.backend_snippet, "use_azuread_auth     = true") && strcontains(output.backend_snippet, "storage_account_name = \"${output.storage_account_name}\"") && strcontains(output.backend_snippet, "key                  = \"prod/<stack>.tfstate\"")
    error_message = "The other stacks find the state by this snippet, without a key."
  }
  assert {
    condition     = output.state_blob_key == "prod/00-bootstrap.tfstate"
    error_message = "Keys begin with the environment."
  }
}

run "names_can_be_replaced" {
  command = plan

  variables {
    state_rg_name_override        = "rg-state"
    storage_account_name_override = "stmine"
    state_container_name          = "states"
  }

  assert {
    condition     = output.state_rg_name == "rg-state" && output.storage_account_name == "stmine" && output.state_container_name == "states"
    error_message = "Every name has an override."
  }
}

run "a_resource_group_can_be_brought_along" {
  command = plan

  variables {
    existing_resource_group_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine"
  }

  assert {
    condition     = output.state_rg_name == "rg-mine"
    error_message = "The group that exists is used."
  }
}

run "values_are_validated" {
  command = plan

  variables {
    subscription_id = "mine"
    tenant_id       = "mine"
  }

  expect_failures = [var.subscription_id, var.tenant_id]
}
