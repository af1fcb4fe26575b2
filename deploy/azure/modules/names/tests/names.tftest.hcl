variables {
  subscription_id  = "00000000-0000-0000-0000-000000000000"
  workload_name    = "genai"
  environment_code = "dev"
  location         = "West Europe"
}

run "names_follow_the_pattern" {
  command = plan

  assert {
    condition     = output.location == "westeurope" && output.location_short == "we" && output.suffix == "genai-dev-we"
    error_message = "A region written with blanks must give the same names as its code."
  }
  assert {
    condition     = can(regex("^kv-genai-dev-we-[0-9a-f]{5}$", output.key_vault_name))
    error_message = "The vault's name must end with the unique part."
  }
}

run "long_names_stay_within_azure_limits" {
  command = plan

  variables {
    workload_name    = "abcdefghijklmn-p"
    environment_code = "abcdefgh"
    identifier       = "abcdefgh"
    location         = "somewherenew"
  }

  assert {
    condition     = length(output.storage_account_name) <= 24 && length(output.key_vault_name) <= 24 && length(output.registry_name) <= 50
    error_message = "Azure takes 24 characters for storage accounts and vaults, 50 for registries."
  }
  assert {
    condition     = can(regex("^[a-z0-9]+$", output.storage_account_name)) && can(regex("^[a-z0-9]+$", output.registry_name)) && !strcontains(output.key_vault_name, "--")
    error_message = "Storage accounts and registries take letters and digits only, vaults no two hyphens in a row."
  }
  assert {
    condition     = output.location_short == "somewh"
    error_message = "A region without a short code is named by its first letters."
  }
}

run "another_subscription_has_other_unique_names" {
  command = plan

  variables {
    subscription_id = "11111111-1111-1111-1111-111111111111"
  }

  assert {
    condition     = output.unique != run.names_follow_the_pattern.unique
    error_message = "Two subscriptions must not want the same vault."
  }
}

run "names_are_validated" {
  command = plan

  variables {
    subscription_id  = "my subscription"
    workload_name    = "GenAI"
    environment_code = "p"
    identifier       = "a-b"
    location         = "west_europe"
  }

  expect_failures = [var.subscription_id, var.workload_name, var.environment_code, var.identifier, var.location]
}
