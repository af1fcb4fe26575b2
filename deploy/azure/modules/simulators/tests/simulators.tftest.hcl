# Mocked providers have no ephemeral resources, so random is real. Nothing calls Azure.
mock_provider "azurerm" {
  override_during = plan

  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-sim"
      principal_id = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    }
  }
}

variables {
  name_suffix                  = "genai-e2e-we"
  resource_group_name          = "rg"
  location                     = "westeurope"
  container_app_environment_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.App/managedEnvironments/cae"
  default_domain               = "cae.westeurope.azurecontainerapps.io"
  image                        = "crgenai.azurecr.io/aoai-api-simulator:0.5"
  registry_id                  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/crgenai"
  registry_login_server        = "crgenai.azurecr.io"
  vault_identity_id            = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-vault"
  key_vault_id                 = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv"
  key_vault_uri                = "https://kv.vault.azure.net/"
  external_enabled             = true
}

run "three_simulators_with_one_key_of_the_vault" {
  command = plan

  assert {
    condition     = join(" ", sort([for app in azurerm_container_app.this : app.name])) == "ca-sim-payg1-genai-e2e-we ca-sim-payg2-genai-e2e-we ca-sim-ptu1-genai-e2e-we"
    error_message = "There are three simulators."
  }
  assert {
    condition     = output.urls["ptu-backend-1"] == "https://ca-sim-ptu1-genai-e2e-we.cae.westeurope.azurecontainerapps.io" && join(" ", keys(output.urls)) == "payg-backend-1 payg-backend-2 ptu-backend-1"
    error_message = "The backends have the names that the pools need."
  }
  assert {
    condition = alltrue([
      for app in azurerm_container_app.this :
      one([for env in app.template[0].container[0].env : env.secret_name if env.name == "SIMULATOR_API_KEY"]) == "simulator-api-key" &&
      alltrue([for env in app.template[0].container[0].env : env.value == null || env.value == "" if env.name == "SIMULATOR_API_KEY"]) &&
      app.template[0].min_replicas == 1 && app.template[0].max_replicas == 1
    ])
    error_message = "The key is a reference, and one process counts the limits."
  }
  assert {
    condition = alltrue([
      for app in azurerm_container_app.this :
      jsondecode(one([for env in app.template[0].container[0].env : env.value if env.name == "DEPLOYMENTS"]))["gpt-35-turbo-100k-token"].tokensPerMinute == 100000
    ])
    error_message = "The simulators get the deployments."
  }
  assert {
    condition     = azurerm_key_vault_secret.key.value == null && azurerm_key_vault_secret.key.value_wo_version == 1
    error_message = "The state has no key."
  }
  assert {
    condition     = azurerm_role_assignment.pull[0].role_definition_name == "AcrPull"
    error_message = "The simulators pull their image, and have no other right."
  }
}

run "inside_the_environment_only" {
  command = plan
  variables {
    external_enabled = false
  }
  assert {
    condition     = output.urls["payg-backend-2"] == "https://ca-sim-payg2-genai-e2e-we.internal.cae.westeurope.azurecontainerapps.io" && alltrue([for app in azurerm_container_app.this : !app.ingress[0].external_enabled])
    error_message = "The simulators can be reached only from inside the environment."
  }
}

run "an_image_without_a_version_is_refused" {
  command = plan
  variables {
    image = "crgenai.azurecr.io/aoai-api-simulator:latest"
  }
  expect_failures = [var.image]
}
