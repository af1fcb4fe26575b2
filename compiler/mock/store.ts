import type { Json } from './call.ts';

/** Most objects of each kind. The oldest is removed, so that a load test can run for hours. */
const CAPACITY = 20_000;

export class Store<Item> {
  readonly #items = new Map<string, Item>();

  get(id: string): Item | undefined {
    return this.#items.get(id);
  }

  set(id: string, item: Item): Item {
    this.#items.set(id, item);
    if (this.#items.size > CAPACITY) {
      for (const oldest of this.#items.keys()) {
        this.#items.delete(oldest);
        break;
      }
    }
    return item;
  }

  delete(id: string): boolean {
    return this.#items.delete(id);
  }

  /** Newest first. */
  all(): Item[] {
    return [...this.#items.values()].reverse();
  }

  /** Objects whose id starts with the prefix, newest first. */
  below(prefix: string): Item[] {
    return [...this.#items]
      .filter(([id]) => id.startsWith(prefix))
      .map(([, item]) => item)
      .reverse();
  }
}

export interface StoredResponse {
  readonly response: Json;
  readonly input: readonly Json[];
}

export interface StoredFile {
  readonly file: Json;
  readonly content: Buffer;
}

export interface Conversation {
  readonly conversation: Json;
  readonly items: Json[];
}

export interface StoredCompletion {
  readonly completion: Json;
  readonly messages: readonly Json[];
}

/** The stored objects of one resource. Resources share nothing. */
export class Stores {
  /** A marker in everything that this resource encrypts; other resources reject it. */
  readonly seal = crypto.randomUUID().replaceAll('-', '');
  readonly completions = new Store<StoredCompletion>();
  readonly responses = new Store<StoredResponse>();
  readonly conversations = new Store<Conversation>();
  readonly files = new Store<StoredFile>();
  /** Contents of uploaded parts, by the ids of upload and part. */
  readonly parts = new Store<Buffer>();
  readonly containerFiles = new Store<Buffer>();
  /** Ephemeral keys of realtime sessions. */
  readonly secrets = new Store<Json>();
  readonly #objects = new Map<string, Store<Json>>();

  /** Objects that consist only of their JSON, by their ids and those of their parents. */
  objects(kind: string): Store<Json> {
    const found = this.#objects.get(kind) ?? new Store<Json>();
    this.#objects.set(kind, found);
    return found;
  }
}
