import { underLoad } from '../support/load.ts';

underLoad(12_000);
