// Pulumi loads a pack in TypeScript through ts-node, which takes no import of a `.ts` file. From here on, Node loads it as it stands.
import './index.ts';
