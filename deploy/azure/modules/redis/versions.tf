terraform {
  # 1.11 is the first version with write-only arguments.
  required_version = ">= 1.11, < 2"

  required_providers {
    # azurerm_managed_redis exports both access keys, and so writes them to the state.
    azapi = {
      source  = "Azure/azapi"
      version = "~> 2.12"
    }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
    # The password of the container is an ephemeral value.
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}
