import type { Json } from './call.ts';

/** What a resource remembers of each kind. The oldest is forgotten, so that a load test may go on for hours. */
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

/** What one resource holds; another one knows nothing of it. */
export class Stores {
  /** In everything this resource encrypts, for nobody else to accept. */
  readonly seal = crypto.randomUUID().replaceAll('-', '');
  readonly responses = new Store<StoredResponse>();
  readonly conversations = new Store<Conversation>();
  readonly files = new Store<StoredFile>();
  readonly batches = new Store<Json>();
  readonly vectorStores = new Store<Json>();
}
