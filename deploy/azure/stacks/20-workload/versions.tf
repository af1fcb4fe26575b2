terraform {
  # 1.11 is the first version with write-only arguments, by which credentials reach the vault without the state.
  required_version = ">= 1.11, < 2"

  required_providers {
    # azurerm lacks ephemeral keys and the idle timeout of the ingress; see the modules redis, vault-secret, environment.
    azapi = {
      source  = "Azure/azapi"
      version = "~> 2.12"
    }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}
